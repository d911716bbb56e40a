package org.ferrowal.demo;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** What the demo shows: headings, explanations, one progress line that renews itself, tables. For one thread. */
final class Screen {
    private static final long PLAIN_PROGRESS_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final int WIDTH = 110;

    /** On a terminal the progress line is renewed in place; elsewhere it is printed every few seconds. */
    private final boolean live = System.console() != null && System.getenv("NO_COLOR") == null;
    private boolean lineOpen;
    private long lastProgress;

    void heading(String text) {
        endLine();
        System.out.println();
        System.out.println(live ? "\033[1m" + text + "\033[0m" : text);
    }

    void say(String text) {
        endLine();
        System.out.println("  " + text);
    }

    void progress(String text) {
        if (live) {
            System.out.print("\r\033[K  " + text.substring(0, Math.min(text.length(), WIDTH)));
            lineOpen = true;
        } else if (System.nanoTime() - lastProgress >= PLAIN_PROGRESS_NANOS) {
            System.out.println("  " + text);
            lastProgress = System.nanoTime();
        }
        System.out.flush();
    }

    /** Columns as wide as their widest cell; the first one aligned to the left, the others to the right. */
    void table(List<List<String>> rows) {
        endLine();
        int columns = rows.get(0).size();
        int[] widths = new int[columns];
        for (List<String> row : rows) {
            for (int i = 0; i < columns; i++) {
                widths[i] = Math.max(widths[i], row.get(i).length());
            }
        }
        System.out.println();
        for (int r = 0; r < rows.size(); r++) {
            List<String> cells = new ArrayList<>();
            for (int i = 0; i < columns; i++) {
                cells.add(String.format(i == 0 ? "%-" + widths[i] + "s" : "%" + widths[i] + "s", rows.get(r).get(i)));
            }
            System.out.println("  " + String.join("   ", cells));
            if (r == 0) {
                System.out.println("  " + "-".repeat(java.util.Arrays.stream(widths).sum() + 3 * (columns - 1)));
            }
        }
    }

    private void endLine() {
        if (lineOpen) {
            System.out.println();
            lineOpen = false;
        }
    }
}
