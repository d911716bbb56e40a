package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;

import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The benchmark's command: says what is measured, shows which logs sync, runs each cell and prints its table. Nothing here
 * fails because something was slow. Exit code 0 if every row ran, 1 if one failed (the table says which), 2 for bad flags,
 * 3 if the benchmark could not be carried through.
 */
@Command(name = "bench", sortOptions = false, usageHelpWidth = 110,
    description = "Measures ferrowal beside what the device itself does and beside Spark's own logs, in one run.")
public final class Bench implements Callable<Integer> {
    @Option(names = "--sizes", split = ",", defaultValue = "64k", converter = SizeConverter.class,
        description = "Bytes in a record, such as 1k,64k,1m (default ${DEFAULT-VALUE}).")
    private List<Integer> sizes;
    @Option(names = "--threads", split = ",", defaultValue = "8",
        description = "Threads that write, such as 1,8,64 (default ${DEFAULT-VALUE}).")
    private List<Integer> threads;
    @Option(names = "--logs", split = ",", defaultValue = "ferrowal,filebased,filebased-close",
        description = "Rows beside the device's (default ${DEFAULT-VALUE}).")
    private List<String> logs;
    @Option(names = "--rounds", defaultValue = "5",
        description = "Counted rounds of each row; one uncounted round comes first (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Option(names = "--seconds", defaultValue = "3", description = "Length of a round (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--dir", description = "Where the logs are written: on the device to measure "
        + "(default build/bench/work). A directory of the benchmark's own is made there and deleted at the end.")
    private Path dir;
    @Option(names = "--no-syncs", description = "Leaves out the count of syncs.")
    private boolean noSyncs;
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "Shows this.")
    private boolean help;

    private static final double RAMP_SECONDS = 0.25;
    private static final double DEVICE_SECONDS = 0.5;
    /** What a row that never syncs may put into the page cache: a bound, to know beforehand whether the disk is too small. */
    private static final double BYTES_PER_SECOND = 2e9;
    private static final long LEAST_BYTES = 4L << 30;

    /** See {@code --help}. */
    public static void main(String[] args) {
        int code = new CommandLine(new Bench()).setExecutionExceptionHandler((e, command, parsed) -> {
            System.err.print("\nThe benchmark could not be carried through. ");
            if (e instanceof BenchException) {
                System.err.println(e.getMessage());
            } else {
                e.printStackTrace();
            }
            return 3;
        }).execute(args);
        // Spark's and Hadoop's threads would keep the JVM.
        System.exit(code);
    }

    @Override
    public Integer call() throws Exception {
        check();
        List<Contender> contenders = logs.stream().map(Contenders::byId).toList();
        Path home = Path.of(System.getProperty("bench.dir", "build/bench"));
        Path parent = dir != null ? dir : home.resolve("work");
        Files.createDirectories(parent);
        Path work = Files.createTempDirectory(parent.toRealPath(), "bench-");
        Thread cleanUp = new Thread(() -> deleteQuietly(work, parent));
        Runtime.getRuntime().addShutdownHook(cleanUp);
        WorkFiles.needSpace(work, Math.max(LEAST_BYTES,
            (long) ((rounds + 1) * (seconds + RAMP_SECONDS) * BYTES_PER_SECOND)));

        describe(contenders, work);
        if (!noSyncs) {
            countSyncs(contenders, work);
        }
        Report report = new Report(System.out);
        Cell.Plan plan = new Cell.Plan(rounds, seconds, RAMP_SECONDS, Math.min(DEVICE_SECONDS, seconds));
        boolean failed = false;
        Path csv = home.resolve("results.csv");
        for (int size : sizes) {
            for (int writers : threads) {
                Cell cell = new Cell(size, writers);
                cell.run(contenders, plan, work, Bench::progress);
                progress("");
                report.table(cell);
                report.writeCsv(csv); // After each cell: what was measured stays, whatever comes.
                failed |= cell.results().values().stream().anyMatch(result -> result.failure() != null);
            }
        }
        System.out.println();
        System.out.println("Medians over " + rounds + (rounds == 1 ? " round" : " interleaved rounds")
            + ", with least and most; MB is 10^6 bytes. Times are of one write (of one barrier, in the device's row). Load "
            + "average at the end: " + Machine.load() + ". Every round: " + csv);
        return failed ? 1 : 0;
    }

    private void check() {
        if (rounds < 1 || !(seconds >= 0.1) || sizes.isEmpty() || threads.isEmpty()
            || threads.stream().anyMatch(writers -> writers < 1 || writers > 1024)) {
            throw new BenchException("It takes at least one round, 0.1 seconds, one size, and 1 to 1024 threads.");
        }
    }

    private void describe(List<Contender> contenders, Path work) throws IOException {
        System.out.println("Machine: " + Machine.describe(work) + "; load average " + Machine.load() + ".");
        System.out.printf(Locale.ROOT, "Method: rounds of %s s interleaved; the device just before and after each; before each "
            + "the file system is written back (syncfs).%n", seconds);
        if (Device.isMemory(work)) {
            System.out.println("This directory lies in memory: the figures say nothing about a device.");
        }
        System.out.println();
        System.out.println("- **the device** (durable): one thread overwrites zeroed blocks, one record of each writer in one "
            + "write and one fdatasync. An ideal group commit, no log at all.");
        for (Contender contender : contenders) {
            System.out.println("- **" + contender.title() + "** (" + (contender.durable() ? "durable" : "not durable") + "): "
                + contender.words());
        }
        System.out.println();
    }

    /** Shows, by their system calls, that the rows do what {@link #describe} says. */
    private void countSyncs(List<Contender> contenders, Path work) throws IOException, InterruptedException {
        String obstacle = SyncCount.obstacle();
        if (!obstacle.isEmpty()) {
            System.out.println("Syncs: not counted, since " + obstacle + ".");
            return;
        }
        int size = sizes.get(0);
        System.out.println("Syncs, counted by strace while one thread writes " + SyncCount.RECORDS + " records of "
            + Report.size(size) + ":");
        for (Contender contender : contenders) {
            progress("counting the syncs of " + contender.title());
            SyncCount count = SyncCount.of(contender, work, size);
            progress("");
            System.out.println("- " + contender.title() + ": " + count.syncs() + " syncs"
                + (count.durableOpens() > 0 ? ", and " + count.durableOpens() + " files opened with O_DSYNC or O_SYNC" : "")
                + (contender.durable() && count.syncs() < SyncCount.RECORDS && count.durableOpens() == 0
                    ? ". THAT IS FEWER THAN RECORDS: this row is not what it says" : ""));
        }
    }

    /** One line that changes, on a terminal; nothing otherwise. */
    private static void progress(String text) {
        if (System.console() != null) {
            System.err.print("\r\033[K" + text);
            System.err.flush();
        }
    }

    private static void deleteQuietly(Path work, Path parent) {
        try {
            WorkFiles.delete(work);
            try (var others = Files.list(parent)) {
                if (parent.endsWith("work") && others.findAny().isEmpty()) {
                    Files.delete(parent);
                }
            }
        } catch (IOException e) {
            System.err.println("Left behind, please delete it: " + work + " (" + e + ")");
        }
    }

    private static final class SizeConverter implements CommandLine.ITypeConverter<Integer> {
        @Override
        public Integer convert(String value) {
            String text = value.strip().toLowerCase(Locale.ROOT);
            int shift = text.endsWith("k") ? 10 : text.endsWith("m") ? 20 : 0;
            try {
                long bytes = Long.parseLong(shift == 0 ? text : text.substring(0, text.length() - 1)) << shift;
                if (bytes >= 1 && bytes <= 1 << 30) {
                    return (int) bytes;
                }
            } catch (NumberFormatException e) {
                throw new CommandLine.TypeConversionException("'" + value + "' is not a size such as 1k, 64k or 1m");
            }
            throw new CommandLine.TypeConversionException("'" + value + "' is not between 1 byte and 1 GiB");
        }
    }
}
