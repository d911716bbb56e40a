package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.Callable;

import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** The grid: durable appends of every size by every number of threads, all rows interleaved with the device. */
@Command(name = "append", sortOptions = false, usageHelpWidth = 110,
    description = "The grid: records of each size, written by each number of threads, in each row.")
final class AppendBench implements Callable<Integer> {
    @Option(names = "--sizes", split = ",", converter = Workspace.Bytes.class,
        description = "Bytes in a record (default 100,1k,16k,64k,256k,1m,4m).")
    private List<Long> sizes;
    @Option(names = "--threads", split = ",", description = "Threads that write (default 1,2,8,64).")
    private List<Integer> threads;
    @Option(names = "--logs", split = ",", description = "Rows beside the device's (default all).")
    private List<String> logs;
    @Option(names = "--rounds", description = "Counted rounds of each row; one uncounted round comes first (default 5).")
    private Integer rounds;
    @Option(names = "--seconds", description = "Length of a round (default 1), three times as much where "
        + "all writers together write 64m or more at once.")
    private Double seconds;
    @Option(names = "--quick", description = "A small grid of few rows and short rounds, at most three minutes: 1k and 64k "
        + "by 1, 8 and 64 threads; ferrowal and the FileChannel. Other flags narrow or widen it.")
    private boolean quick;
    @Option(names = "--no-syncs", description = "Leaves out the count of syncs.")
    private boolean noSyncs;
    @Mixin
    private Workspace space;

    /** What a row that never syncs may put into the page cache: a bound, to know beforehand whether the disk is too small. */
    private static final double BYTES_PER_SECOND = 2e9;
    private static final long LEAST_BYTES = 8L << 30;

    /** The charts that docs/benchmarks.md shows, of some fifty. */
    private static final Set<String> SHOWN = Set.of("throughput-over-threads-1kib.svg", "throughput-over-threads-64kib.svg",
        "share-of-ideal-1kib.svg", "share-of-ideal-64kib.svg", "share-of-ideal-1mib.svg", "throughput-over-size-8.svg",
        "latency-1kib-8.svg", "latency-64kib-8.svg");

    private Cell.Plan plan() {
        double length = seconds != null ? seconds : quick ? 0.5 : 1;
        return new Cell.Plan(rounds != null ? rounds : 5, length, Math.min(0.25, length / 3),
            Math.min(quick ? 0.1 : 0.35, length), Math.min(quick ? 0.1 : 0.5, length));
    }

    @Override
    public Integer call() throws Exception {
        sizes = sizes != null ? sizes : quick ? List.of(1L << 10, 64L << 10)
            : List.of(100L, 1L << 10, 16L << 10, 64L << 10, 256L << 10, 1L << 20, 4L << 20);
        threads = threads != null ? threads : quick ? List.of(1, 8, 64) : List.of(1, 2, 8, 64);
        logs = logs != null ? logs : quick ? List.of("ferrowal", "channel") : Contenders.ids();
        Cell.Plan plan = plan();
        check(plan);
        List<Contender> contenders = logs.stream().map(Contenders::byId).toList();
        Path work = space.work();
        WorkFiles.needSpace(work, Math.max(LEAST_BYTES,
            (long) ((plan.rounds() + 1) * (plan.seconds() + plan.ramp()) * BYTES_PER_SECOND)));
        describe(contenders, plan);
        if (!noSyncs) {
            countSyncs(contenders, work);
        }
        Report report = new Report(System.out);
        Verdicts verdicts = new Verdicts();
        Charts charts = new Charts(space.home().resolve("charts"), Contenders.ids());
        Path csv = space.home().resolve("results.csv");
        List<Cell> cells = new ArrayList<>();
        for (long size : sizes) {
            for (int writers : threads) {
                Cell cell = new Cell((int) size, writers);
                cell.run(contenders, plan, work, Workspace::progress);
                Workspace.progress("");
                cells.add(cell);
                report.table(cell);
                verdicts.add(cell);
                report.writeCsv(csv); // After each cell: what was measured stays, whatever comes.
            }
        }
        verdicts.print(System.out);
        List<Path> drawn = charts.grid(cells);
        for (Path chart : drawn) {
            if (SHOWN.contains(chart.getFileName().toString())) {
                space.publish(chart);
            }
        }
        System.out.println();
        System.out.println("Medians over " + plan.rounds() + (plan.rounds() == 1 ? " round" : " interleaved rounds")
            + ", with least and most; the device's single ways were measured at the start of their cell only. MB is 10^6 bytes. "
            + "Times are of one write (of one barrier, in the device's rows). CPU is the whole process's, the writers' own "
            + "included. Load average at the end: " + Machine.load() + ". Every round: " + Workspace.shown(csv) + ". Charts: "
            + Workspace.shown(drawn.get(0).getParent()) + ".");
        return cells.stream().flatMap(cell -> cell.results().values().stream()).anyMatch(r -> r.failure() != null) ? 1 : 0;
    }

    private void check(Cell.Plan plan) {
        if (plan.rounds() < 1 || !(plan.seconds() >= 0.1) || sizes.isEmpty() || threads.isEmpty()
            || threads.stream().anyMatch(writers -> writers < 1 || writers > 1024)
            || sizes.stream().anyMatch(size -> size > 1 << 30)) {
            throw new BenchException("It takes at least one round, 0.1 seconds, one size of at most 1 GiB, and 1 to 1024 "
                + "threads.");
        }
    }

    private void describe(List<Contender> contenders, Cell.Plan plan) throws IOException {
        space.describe();
        double expected = 5.0 * (noSyncs ? 0 : contenders.size());
        for (long size : sizes) {
            for (int writers : threads) {
                expected += plan.expected(contenders.size(), size, writers)
                    + contenders.stream().mapToDouble(Contender::warmUp).sum();
            }
        }
        System.out.printf(Locale.ROOT, "This takes about %s: %d sizes × %d numbers of threads × %d rows, %d rounds of %s s and "
            + "one that is not counted. --sizes, --threads, --logs, --rounds, --seconds and --quick make it shorter.%n",
            minutes(expected), sizes.size(), threads.size(), contenders.size(), plan.rounds(), plan.seconds());
        System.out.println("Method: rounds interleaved; the ideal just before and after each; before each the file system is "
            + "written back (syncfs).");
        System.out.println();
        System.out.println("- **the device** (durable): zeroed blocks overwritten, the records of all writers in one write each "
            + "time (or, with q in flight, of a q-th of them), no log at all. **The ideal** is the best of these ways, chosen "
            + "at the start of each cell.");
        for (Contender contender : contenders) {
            System.out.println("- **" + contender.title() + "** (" + (contender.durable() ? "durable" : "not durable") + "): "
                + contender.words());
        }
        System.out.println();
        System.out.flush();
    }

    private static String minutes(double seconds) {
        return seconds < 120 ? Math.round(seconds) + " s" : seconds < 7200 ? Math.round(seconds / 60) + " minutes"
            : String.format(Locale.ROOT, "%.1f hours", seconds / 3600);
    }

    /** Shows, by their system calls, that the rows do what {@link #describe} says. */
    private void countSyncs(List<Contender> contenders, Path work) throws IOException, InterruptedException {
        String obstacle = SyncCount.obstacle();
        if (!obstacle.isEmpty()) {
            System.out.println("Syncs: not counted, since " + obstacle + ".");
            return;
        }
        int size = (int) (long) sizes.get(0);
        System.out.println("Syncs, counted by strace while one thread writes " + SyncCount.RECORDS + " records of "
            + Report.size(size) + " (with opening the log):");
        for (Contender contender : contenders) {
            Workspace.progress("counting the syncs of " + contender.title());
            String found;
            try {
                found = SyncCount.of(contender, work, size).describe(contender.durable());
            } catch (BenchException e) {
                // The row itself will fail in the same way, and say so in its table.
                found = "**failed**: " + e.getMessage().lines().findFirst().orElse("");
            }
            Workspace.progress("");
            System.out.println("- " + contender.title() + ": " + found);
            System.out.flush();
        }
    }
}
