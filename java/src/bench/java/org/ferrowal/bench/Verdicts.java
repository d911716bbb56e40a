package org.ferrowal.bench;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;

import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;

/** What ferrowal is meant to reach, beside what was measured. Nothing fails because of it. */
final class Verdicts {
    /** One aim: what work, what is asked, what was measured in {@code decimals}, and whether the median reaches it. */
    private record Line(String work, String target, String measured, boolean reached) {
    }

    private final List<Line> lines = new ArrayList<>();

    /** An aim that is reached from {@code target} upwards. */
    void atLeast(String work, double target, String unit, Sample.Figure figure) {
        add(work, "≥ " + number(target) + unit, figure, figure.median() >= target);
    }

    /** An aim that is reached up to {@code target}. */
    void atMost(String work, double target, String unit, Sample.Figure figure) {
        add(work, "≤ " + number(target) + unit, figure, figure.median() <= target);
    }

    private void add(String work, String target, Sample.Figure figure, boolean reached) {
        if (!Double.isNaN(figure.median())) {
            lines.add(new Line(work, target, figure.show(figure.median() < 0.1 ? 3 : 2, 1), reached));
        }
    }

    /** The aims that a cell of the grid covers. */
    void add(Cell cell) {
        Cell.Result device = cell.results().get(Contenders.DEVICE);
        if (ran(device)) {
            device(cell, device);
        }
        Cell.Result os = cell.results().get(Contenders.OS);
        Cell.Result spark = cell.results().get(Contenders.FILE_BASED);
        if (ran(os) && ran(spark) && (cell.threads() == 1 || cell.threads() >= 8)
            && (cell.size() >= 1 << 10 || cell.threads() >= 8)) {
            atLeast("os, " + name(cell) + ", over Spark's FileBased", cell.threads() == 1 ? 0.9 : 1.5, " ×",
                ratio(os, spark, Sample::rate));
        }
    }

    private void device(Cell cell, Cell.Result row) {
        int size = cell.size();
        int threads = cell.threads();
        String work = "device, " + name(cell);
        Sample.Figure share = Sample.Figure.of(row.samples(), Sample::share);
        double target = threads == 1 ? 0.95
            : threads == 8 && size == 1 << 10 ? 0.80 : threads == 8 && size == 64 << 10 ? 0.90
            : threads == 64 && size == 1 << 10 ? 0.50 : threads == 64 && size == 64 << 10 ? 0.95 : Double.NaN;
        if (!Double.isNaN(target)) {
            atLeast(work, target, " × ideal", share);
        }
        if (size >= Ideal.LARGE && (threads == 2 || threads == 8)) {
            atLeast(work, 0.90, " × the device's best bandwidth", Sample.Figure.of(row.samples(), Sample::streamShare));
        }
        if (size == 1 << 10 && threads == 8) {
            atMost(work + ", p50", 1.4, " × one barrier", Sample.Figure.of(row.samples(), Sample::barriers));
            atMost(work + ", p99", 2.5, " × the barrier's own", Sample.Figure.of(row.samples(), Sample::barriers99));
        }
        Cell.Result artemis = cell.results().get(byId("artemis-aio"));
        if (ran(artemis)) {
            atMost(work + ", CPU a record", 1, " × Artemis's (libaio)", ratio(row, artemis, Sample::cpu));
        }
    }

    private static Contender byId(String id) {
        return Contenders.byId(id);
    }

    private static boolean ran(Cell.Result result) {
        return result != null && result.failure() == null && !result.samples().isEmpty();
    }

    private static String name(Cell cell) {
        return Report.size(cell.size()) + " × " + cell.threads();
    }

    /** Round by round, so that the spread is that of the ratio. */
    private static Sample.Figure ratio(Cell.Result ours, Cell.Result theirs, ToDoubleFunction<Sample> figure) {
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < Math.min(ours.samples().size(), theirs.samples().size()); i++) {
            ratios.add(figure.applyAsDouble(ours.samples().get(i)) / figure.applyAsDouble(theirs.samples().get(i)));
        }
        return Sample.Figure.of(ratios);
    }

    private static String number(double value) {
        return value == Math.rint(value) ? String.format(Locale.ROOT, "%.0f", value) : Double.toString(value);
    }

    /** The table, if there is anything in it. */
    void print(PrintStream out) {
        if (lines.isEmpty()) {
            return;
        }
        out.println();
        out.println("### What was to be reached");
        out.println();
        out.println("| work | to reach | measured: median (least–most) | reached |");
        out.println("|---|---|---|---|");
        for (Line line : lines) {
            out.println("| " + line.work + " | " + line.target + " | " + line.measured + " | "
                + (line.reached ? "yes" : "**no**") + " |");
        }
        out.flush();
    }
}
