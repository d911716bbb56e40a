package org.ferrowal.bench;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

import org.ferrowal.bench.rows.Contender;

/** Prints what was measured in the grid: a Markdown table a cell for people, a CSV line a round for programs. */
final class Report {
    private static final String CSV_HEAD = "size_bytes,threads,row,durable,round,records_per_s,mb_per_s,p50_us,p99_us,"
        + "longest_us,cpu_us_per_record,share_of_ideal,share_of_bandwidth,p50_in_barriers,p99_in_barriers,write_back_s";

    private final PrintStream out;
    private final List<String> csv = new ArrayList<>(List.of(CSV_HEAD));

    Report(PrintStream out) {
        this.out = out;
    }

    /** The table of a cell: medians over the rounds, with least and most. */
    void table(Cell cell) {
        boolean large = cell.stream() != null;
        out.println();
        out.println("### Records of " + size(cell.size()) + ", " + (cell.threads() == 1 ? "1 thread"
            : cell.threads() + " threads"));
        out.println();
        out.println("| row | durable | records/s | MB/s | p50, µs | p99, µs | longest, ms | CPU, µs a record | share of ideal |"
            + (large ? " share of bandwidth |" : "") + " write-back after, s |");
        out.println("|---|---|---|---|---|---|---|---|---|---|" + (large ? "---|" : ""));
        cell.ways().forEach((way, sample) -> {
            row("the device: " + way, true, cell, List.of(sample));
            lines(cell, "device " + csv(way), true, List.of(sample));
        });
        row("**the ideal**: " + cell.best(), true, cell, cell.device());
        lines(cell, "ideal", true, cell.device());
        if (large) {
            Sample.Figure rate = Sample.Figure.of(cell.streamRates());
            out.println("| the device's bandwidth: pieces of " + size(cell.stream().piece()) + ", " + cell.stream()
                + " | yes | " + rate.show(0, 1) + " | " + rate.show(0, cell.size() / 1e6) + " | | | | | | | |");
        }
        for (Map.Entry<Contender, Cell.Result> entry : cell.results().entrySet()) {
            Contender contender = entry.getKey();
            Cell.Result result = entry.getValue();
            if (result.failure() != null) {
                out.println("| " + contender.title() + " | " + yes(contender.durable()) + " | **failed**: "
                    + result.failure().replace('|', '/') + " | | | | | | | |" + (large ? " |" : ""));
                continue;
            }
            row(contender.title(), contender.durable(), cell, result.samples());
            lines(cell, contender.id(), contender.durable(), result.samples());
        }
        out.flush();
    }

    /** Writes all rounds of all cells. */
    void writeCsv(Path file) throws IOException {
        Files.createDirectories(file.getParent());
        Files.write(file, csv);
    }

    private void row(String title, boolean durable, Cell cell, List<Sample> samples) {
        Sample.Figure rate = Sample.Figure.of(samples, Sample::rate);
        List<String> columns = new ArrayList<>(List.of(title, yes(durable), rate.show(0, 1),
            rate.show(cell.size() < 16 << 10 ? 1 : 0, cell.size() / 1e6),
            Sample.Figure.of(samples, Sample::p50).show(0, 1), Sample.Figure.of(samples, Sample::p99).show(0, 1),
            Sample.Figure.of(samples, Sample::longest).show(1, 1e-3), Sample.Figure.of(samples, Sample::cpu).show(1, 1),
            Sample.Figure.of(samples, Sample::share).show(2, 1)));
        if (cell.stream() != null) {
            columns.add(Sample.Figure.of(samples, Sample::streamShare).show(2, 1));
        }
        columns.add(Sample.Figure.of(samples, Sample::left).show(2, 1));
        out.println("| " + String.join(" | ", columns) + " |");
    }

    private void lines(Cell cell, String id, boolean durable, List<Sample> samples) {
        for (int i = 0; i < samples.size(); i++) {
            Sample s = samples.get(i);
            csv.add(String.join(",", Integer.toString(cell.size()), Integer.toString(cell.threads()), id,
                Boolean.toString(durable), Integer.toString(i + 1), number(s.rate()), number(s.rate() * cell.size() / 1e6),
                number(s.p50()), number(s.p99()), number(s.longest()), number(s.cpu()), number(s.share()),
                number(s.streamShare()), number(s.barriers()), number(s.barriers99()), number(s.left())));
        }
    }

    private static String csv(Device.Way way) {
        return way.toString().replace(",", "");
    }

    private static String number(double value) {
        return Double.isNaN(value) ? "" : String.format(Locale.ROOT, "%.4f", value);
    }

    private static String yes(boolean value) {
        return value ? "yes" : "no";
    }

    /** Bytes as they are asked for on the command line: 1024 to a KiB. */
    static String size(long bytes) {
        if (bytes % (1 << 30) == 0) {
            return (bytes >> 30) + " GiB";
        }
        if (bytes % (1 << 20) == 0) {
            return (bytes >> 20) + " MiB";
        }
        return bytes % (1 << 10) == 0 ? (bytes >> 10) + " KiB" : bytes + " B";
    }
}
