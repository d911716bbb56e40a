package org.ferrowal.demo;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** What the demo shows: headings, paragraphs, one progress line that renews itself, tables. For one thread. */
final class Screen {
    private static final long PLAIN_PROGRESS_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final int WIDTH = 80;
    private static final String INDENT = "  ";

    /** On a terminal the progress line is renewed in place; elsewhere it is printed every few seconds. */
    private final boolean live = System.console() != null;
    private final boolean bold = live && System.getenv("NO_COLOR") == null;
    private boolean lineOpen;
    private boolean afterTable;
    private long lastProgress = System.nanoTime();

    void heading(String text) {
        endLine();
        if (!afterTable) {
            System.out.println();
        }
        afterTable = false;
        System.out.println(bold ? "\033[1m" + text + "\033[0m" : text);
    }

    /** A paragraph, wrapped. A word that is too long, such as a path, gets a line of its own. */
    void say(String text) {
        endLine();
        afterTable = false;
        StringBuilder line = new StringBuilder(INDENT);
        for (String word : text.split(" ")) {
            if (line.length() + word.length() >= WIDTH && !line.toString().isBlank()) {
                System.out.println(line.toString().stripTrailing());
                line = new StringBuilder(INDENT);
            }
            line.append(word).append(' ');
        }
        System.out.println(line.toString().stripTrailing());
    }

    void progress(String text) {
        if (live) {
            System.out.print("\r\033[K" + INDENT + text.substring(0, Math.min(text.length(), WIDTH - INDENT.length() - 1)));
            lineOpen = true;
        } else if (System.nanoTime() - lastProgress >= PLAIN_PROGRESS_NANOS) {
            System.out.println(INDENT + text);
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
            System.out.println(INDENT + String.join(INDENT, cells));
            if (r == 0) {
                System.out.println(INDENT + "-".repeat(Arrays.stream(widths).sum() + INDENT.length() * (columns - 1)));
            }
        }
        System.out.println();
        afterTable = true;
    }

    private void endLine() {
        if (lineOpen) {
            System.out.println();
            lineOpen = false;
        }
    }
}
