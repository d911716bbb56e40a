package org.ferrowal.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.function.ToDoubleFunction;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** A whole Spark Streaming application, its receivers at full rate: without a log, with Spark's, with ferrowal. */
@Command(name = "spark", sortOptions = false, usageHelpWidth = 110,
    description = "A whole Spark Streaming application with no log, Spark's own and ferrowal: records a second, processing delay.")
final class SparkBench implements Callable<Integer> {
    @Option(names = "--receivers", defaultValue = "1", description = "Receivers, a core each (default ${DEFAULT-VALUE}).")
    private int receivers;
    @Option(names = "--cores", description = "Cores of the application: local[N] (default: those of the machine).")
    private int cores = Runtime.getRuntime().availableProcessors();
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "1k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--block", defaultValue = "1000", description = "Records in a block (default ${DEFAULT-VALUE}).")
    private int block;
    @Option(names = "--warm", defaultValue = "8", description = "Batches that do not count (default ${DEFAULT-VALUE}).")
    private int warm;
    @Option(names = "--batches", defaultValue = "20", description = "Batches that count (default ${DEFAULT-VALUE}).")
    private int batches;
    @Option(names = "--interval", defaultValue = "1000", description = "Batch interval, ms (default ${DEFAULT-VALUE}).")
    private long interval;
    @Option(names = "--rate", defaultValue = "0", description = "Records a second of each receiver, the same with every log; "
        + "0 (the default): as many as it can store.")
    private long rate;
    @Option(names = "--rounds", defaultValue = "5", description = "Rounds of each row (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Option(names = "--heap", defaultValue = "4g", description = "The application's heap (default ${DEFAULT-VALUE}).")
    private String heap;
    @Mixin
    private Workspace space;

    private static final double KEPT_PER_SECOND = 0.8e9;

    private enum Row {
        NONE("no log", Map.of()),
        SPARK("Spark's own logs", Map.of("spark.streaming.receiver.writeAheadLog.enable", "true")),
        FERROWAL("ferrowal", ferrowal(true)),
        ASLEEP("ferrowal, spin=false", ferrowal(false)),
        /** Where receivers go as fast as they can, a log that takes more has longer batches: this one takes no more. */
        PACED("ferrowal, at the rate of Spark's own logs", ferrowal(true));

        private final String title;
        private final Map<String, String> conf;

        private static Map<String, String> ferrowal(boolean spin) {
            return Map.of("spark.streaming.receiver.writeAheadLog.enable", "true",
                "spark.streaming.receiver.writeAheadLog.class", "org.ferrowal.spark.ReceiverWriteAheadLog",
                "spark.streaming.driver.writeAheadLog.class", "org.ferrowal.spark.DriverWriteAheadLog",
                "spark.ferrowal.clean.grace", "1s", "spark.ferrowal.spin", Boolean.toString(spin));
        }

        Row(String title, Map<String, String> conf) {
            this.title = title;
            this.conf = conf;
        }
    }

    private record Result(double rate, double p50, double p99, long records, Map<ThreadTimes.Kind, ThreadTimes.Times> threads) {
        double micros(ThreadTimes.Kind kind, ToDoubleFunction<ThreadTimes.Times> get) {
            ThreadTimes.Times times = threads.get(kind);
            return times == null ? 0 : get.applyAsDouble(times) / Math.max(records, 1);
        }
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        WorkFiles.needSpace(work, (long) ((warm + batches) * interval / 1e3 * KEPT_PER_SECOND) + (4L << 30));
        System.out.println("Each round starts the application anew: local[" + cores + "], " + receivers + " receivers that store "
            + "blocks of " + block + " records " + (rate == 0 ? "as fast as Spark takes them" : "at " + rate + " records a second")
            + ", batches of " + interval + " ms, a job that looks at every record. " + warm + " batches do not count. Without a log there is no checkpoint either.");
        Map<Row, List<Result>> all = new EnumMap<>(Row.class);
        for (int round = 1; round <= rounds; round++) {
            List<Row> rows = new ArrayList<>(List.of(Row.NONE, Row.SPARK, Row.FERROWAL, Row.ASLEEP));
            // Nobody always comes after the same row, with what that has left in the caches and on the device.
            if (round % 2 == 0) {
                Collections.reverse(rows);
            }
            for (Row row : rows) {
                Result result = measure(round, row, work, rate, all);
                if (row == Row.SPARK && rate == 0) {
                    measure(round, Row.PACED, work, (long) result.rate / receivers, all);
                }
            }
        }
        Workspace.progress("");
        System.out.println();
        System.out.println("### A whole Spark application, records of " + Report.size(size) + atRate());
        System.out.println();
        System.out.println("| log | records/s | MB/s | processing delay, p50, ms | p99, ms |");
        System.out.println("|---|---|---|---|---|");
        all.forEach((row, results) -> System.out.println("| " + String.join(" | ", row.title,
            figure(results, Result::rate).show(0, 1), figure(results, Result::rate).show(0, size / 1e6),
            figure(results, Result::p50).show(0, 1), figure(results, Result::p99).show(0, 1)) + " |"));
        profile(all);
        Verdicts verdicts = new Verdicts();
        verdicts.atLeast("a whole Spark application" + atRate() + ", records/s over Spark's own log", 0.97, " ×",
            ratio(all.get(Row.FERROWAL), all.get(Row.SPARK), Result::rate));
        verdicts.atMost("its processing delay" + atRate() + " over that with Spark's own log", 1, " ×",
            ratio(all.get(Row.FERROWAL), all.get(Row.SPARK), Result::p50));
        if (rate == 0) {
            verdicts.atLeast("held to the rate of Spark's own log, records/s over it", 0.97, " ×",
                ratio(all.get(Row.PACED), all.get(Row.SPARK), Result::rate));
            verdicts.atMost("its processing delay at that rate, over that with Spark's own log", 1, " ×",
                ratio(all.get(Row.PACED), all.get(Row.SPARK), Result::p50));
        }
        verdicts.atLeast("its records/s with spinning, over the same without", 0.97, " ×",
            ratio(all.get(Row.FERROWAL), all.get(Row.ASLEEP), Result::rate));
        verdicts.print(System.out);
        return 0;
    }

    private Result measure(int round, Row row, Path work, long rate, Map<Row, List<Result>> all) throws Exception {
        Workspace.progress("spark, round " + round + " of " + rounds + ": " + row.title);
        WorkFiles.writeBack(work);
        Result result = run(row, work.resolve("app"), rate);
        all.computeIfAbsent(row, key -> new ArrayList<>()).add(result);
        return result;
    }

    /** Who had the processors, and what tasks waited for one: where the delay comes from. */
    private static void profile(Map<Row, List<Result>> all) {
        System.out.println();
        System.out.println("### The same application's processors: microseconds a record");
        System.out.println();
        System.out.println("By the kernel's account of each thread (/proc/self/task/*/schedstat), over the batches that count.");
        System.out.println();
        StringBuilder head = new StringBuilder("| log |");
        StringBuilder rule = new StringBuilder("|---|");
        for (ThreadTimes.Kind kind : ThreadTimes.Kind.values()) {
            head.append(' ').append(kind.title).append(" |");
            rule.append("---|");
        }
        System.out.println(head + " tasks, waiting for a processor |");
        System.out.println(rule + "---|");
        all.forEach((row, results) -> {
            StringBuilder line = new StringBuilder("| ").append(row.title).append(" |");
            for (ThreadTimes.Kind kind : ThreadTimes.Kind.values()) {
                line.append(' ').append(figure(results, r -> r.micros(kind, ThreadTimes.Times::ran)).show(2, 1)).append(" |");
            }
            line.append(' ').append(figure(results, r -> r.micros(ThreadTimes.Kind.TASKS, ThreadTimes.Times::waited)).show(2, 1));
            System.out.println(line.append(" |"));
        });
    }

    /** Nothing where the receivers go as fast as they can. */
    private String atRate() {
        return rate == 0 ? "" : " at " + rate + " records/s" + (receivers == 1 ? "" : " by each of " + receivers + " receivers");
    }

    private interface Get {
        double of(Result result);
    }

    private static Sample.Figure figure(List<Result> results, Get get) {
        return Sample.Figure.of(results.stream().map(get::of).toList());
    }

    private static Sample.Figure ratio(List<Result> ours, List<Result> theirs, Get get) {
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < ours.size(); i++) {
            ratios.add(get.of(ours.get(i)) / get.of(theirs.get(i)));
        }
        return Sample.Figure.of(ratios);
    }

    private Result run(Row row, Path directory, long rate) throws Exception {
        Files.createDirectory(directory);
        Path output = directory.resolve("output");
        Path scratch = Files.createDirectory(directory.resolve("scratch"));
        List<String> command = Child.java();
        List<String> flags = new ArrayList<>();
        flags.add("-Xmx" + heap);
        flags.add("-Dspark.master=local[" + cores + "]");
        flags.add("-Dspark.app.name=bench");
        flags.add("-Dspark.ui.enabled=false");
        flags.add("-Dspark.driver.host=localhost");
        flags.add("-Dspark.local.dir=" + scratch);
        row.conf.forEach((key, value) -> flags.add("-D" + key + "=" + value));
        if (row != Row.NONE && row != Row.SPARK) {
            flags.add("-Dspark.ferrowal.dir=" + directory.resolve("wal").toUri());
        }
        // After the flags that it inherits: the last -Xmx counts.
        command.addAll(command.size() - 2, flags);
        command.addAll(List.of(SparkApp.class.getName(),
            row == Row.NONE ? "none" : directory.resolve("checkpoint").toUri().toString(), Integer.toString(receivers),
            Long.toString(size), Integer.toString(block), Integer.toString(warm), Integer.toString(batches),
            Long.toString(interval), Long.toString(rate)));
        Process child = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        try {
            long bound = 120 + (warm + batches) * interval / 1000 * 5;
            boolean ended = child.waitFor(bound, TimeUnit.SECONDS);
            String said = Files.readString(output);
            String result = said.lines().filter(line -> line.startsWith("result ")).findFirst().orElse(null);
            String threads = said.lines().filter(line -> line.startsWith("threads ")).findFirst().orElse(null);
            if (!ended || result == null || threads == null) {
                throw new BenchException("the application with " + row.title + (ended ? " ended" : " did not end within " + bound
                    + " s") + " without a result: " + said.substring(Math.max(said.length() - 2000, 0)));
            }
            String[] figures = result.split(" ");
            return new Result(Double.parseDouble(figures[1]), Double.parseDouble(figures[2]), Double.parseDouble(figures[3]),
                Long.parseLong(figures[4]), ThreadTimes.parse(threads.substring("threads ".length())));
        } finally {
            child.destroyForcibly().waitFor();
            WorkFiles.delete(directory);
        }
    }
}
