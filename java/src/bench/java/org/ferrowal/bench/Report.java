package org.ferrowal.bench;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Prints what was measured: a Markdown table a cell for people, a CSV line a round for programs. */
final class Report {
    private static final String CSV_HEAD =
        "size_bytes,threads,row,durable,round,records_per_s,mb_per_s,p50_us,p99_us,longest_us,share_of_device,write_back_s";

    private final PrintStream out;
    private final List<String> csv = new ArrayList<>(List.of(CSV_HEAD));

    Report(PrintStream out) {
        this.out = out;
    }

    /** The table of a cell: medians over the rounds, with least and most. */
    void table(Cell cell) {
        out.println();
        out.println("### Records of " + size(cell.size()) + ", " + (cell.threads() == 1 ? "1 thread"
            : cell.threads() + " threads"));
        out.println();
        out.println("| row | durable | records/s | MB/s | p50, µs | p99, µs | longest, ms | share of the device | write-back after, s |");
        out.println("|---|---|---|---|---|---|---|---|---|");
        row("the device, " + cell.threads() + (cell.threads() == 1 ? " record" : " records") + " a barrier", true,
            cell.size(), cell.device(), false);
        lines(cell, "device", true, cell.device());
        for (Map.Entry<Contender, Cell.Result> entry : cell.results().entrySet()) {
            Contender contender = entry.getKey();
            Cell.Result result = entry.getValue();
            if (result.failure() != null) {
                out.println("| " + contender.title() + " | " + yes(contender.durable()) + " | failed: "
                    + result.failure().replace('|', '/') + " | | | | | | |");
                continue;
            }
            row(contender.title(), contender.durable(), cell.size(), result.samples(), true);
            lines(cell, contender.id(), contender.durable(), result.samples());
        }
        out.flush();
    }

    /** Writes all rounds of all cells. */
    void writeCsv(Path file) throws IOException {
        Files.createDirectories(file.getParent());
        Files.write(file, csv);
    }

    private void row(String title, boolean durable, int size, List<Sample> samples, boolean judged) {
        Sample.Figure rate = Sample.Figure.of(samples, Sample::rate);
        Sample.Figure left = Sample.Figure.of(samples, Sample::left);
        out.println("| " + String.join(" | ", title, yes(durable), rate.show(0, 1), rate.show(rateDecimals(size), size / 1e6),
            Sample.Figure.of(samples, Sample::p50).show(0, 1), Sample.Figure.of(samples, Sample::p99).show(0, 1),
            Sample.Figure.of(samples, Sample::longest).show(1, 1e-3),
            judged ? Sample.Figure.of(samples, Sample::share).show(2, 1) : "1",
            !judged ? "" : Double.isNaN(left.median()) ? "not done" : left.show(2, 1)) + " |");
    }

    private void lines(Cell cell, String id, boolean durable, List<Sample> samples) {
        for (int i = 0; i < samples.size(); i++) {
            Sample s = samples.get(i);
            csv.add(String.format(Locale.ROOT, "%d,%d,%s,%s,%d,%.1f,%.3f,%.1f,%.1f,%.1f,%s,%s", cell.size(), cell.threads(), id,
                durable, i + 1, s.rate(), s.rate() * cell.size() / 1e6, s.p50(), s.p99(), s.longest(),
                number(s.share()),
                number(s.left())));
        }
    }

    private static int rateDecimals(int size) {
        return size < 16 << 10 ? 1 : 0;
    }

    private static String number(double value) {
        return Double.isNaN(value) ? "" : String.format(Locale.ROOT, "%.4f", value);
    }

    private static String yes(boolean value) {
        return value ? "yes" : "no";
    }

    /** Bytes as they are asked for on the command line: 1024 to a KiB. */
    static String size(int bytes) {
        if (bytes % (1 << 20) == 0) {
            return (bytes >> 20) + " MiB";
        }
        return bytes % (1 << 10) == 0 ? (bytes >> 10) + " KiB" : bytes + " B";
    }
}
