package org.ferrowal.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;

import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.openjdk.jmh.profile.GCProfiler;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;
import org.openjdk.jmh.util.Statistics;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** The cost of a call through JNI, by JMH. */
@Command(name = "jni", sortOptions = false, usageHelpWidth = 110,
    description = "JMH: time and bytes allocated of one 1 KB write and read, on a tmpfs with durability=os.")
final class JniBench implements Callable<Integer> {
    @Option(names = "--forks", defaultValue = "3", description = "JVMs (default ${DEFAULT-VALUE}).")
    private int forks;
    @Option(names = "--iterations", defaultValue = "5",
        description = "Counted iterations of each (default ${DEFAULT-VALUE}).")
    private int iterations;
    @Option(names = "--seconds", defaultValue = "1", description = "Length of an iteration (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--memory", defaultValue = "/dev/shm", description = "A directory in memory (default ${DEFAULT-VALUE}).")
    private Path memory;
    @Option(names = "--log", defaultValue = "ferrowal-os", description = "The row (default ${DEFAULT-VALUE}).")
    private String log;
    @Mixin
    private Workspace space;

    @Override
    public Integer call() throws Exception {
        space.describe();
        if (!Device.isMemory(memory)) {
            throw new BenchException(memory + " is not a tmpfs: name one with --memory");
        }
        WorkFiles.needSpace(memory, 4L << 30);
        Path directory = Files.createTempDirectory(memory, "ferrowal-bench-");
        List<String> flags = Child.java();
        Collection<RunResult> results;
        List<Double> rust = new ArrayList<>();
        try {
            rust.add(fromRust(directory));
            results = new Runner(new OptionsBuilder().include("\\." + JniCost.class.getSimpleName() + "\\.")
                .forks(forks).warmupIterations(3).warmupTime(span()).measurementIterations(iterations).measurementTime(span())
                .verbosity(VerboseMode.SILENT).addProfiler(GCProfiler.class).shouldFailOnError(true)
                // Without the program itself and the class path, which JMH adds.
                .jvmArgs(flags.subList(1, flags.size() - 2).toArray(new String[0]))
                .jvmArgsAppend("-D" + JniCost.DIRECTORY + "=" + directory, "-D" + JniCost.ROW + "=" + log).build()).run();
            rust.add(fromRust(directory));
        } finally {
            WorkFiles.delete(directory);
        }
        System.out.println();
        System.out.println("### A 1 KB write through JNI, on a tmpfs: " + log);
        System.out.println();
        System.out.println("What Java and JNI cost is the difference between a write and the same append from Rust, without a "
            + "JVM, on the same volume (the mean of one before and one after). bareWrite is the kernel's copy of the bytes alone. "
            + "Median of all iterations, with least and most.");
        System.out.println();
        System.out.println("| | µs | bytes allocated |");
        System.out.println("|---|---|---|");
        Verdicts verdicts = new Verdicts();
        double append = rust.stream().mapToDouble(micros -> micros).average().orElseThrow();
        double apart = Math.abs(rust.get(0) - rust.get(1)) / 2;
        System.out.printf(Locale.ROOT, "| append from Rust | %.3f (%.3f–%.3f) | 0 |%n", append, append - apart,
            append + apart);
        for (RunResult result : results) {
            Result<?> time = result.getPrimaryResult();
            Result<?> bytes = allocated(result);
            // As everywhere: what something else took from a few iterations is in the spread.
            Statistics all = time.getStatistics();
            System.out.printf(Locale.ROOT, "| %s | %.3f (%.3f–%.3f) | %.0f |%n", time.getLabel(), all.getPercentile(50),
                all.getMin(), all.getMax(), bytes == null ? Double.NaN : bytes.getScore());
            if (time.getLabel().equals("writeHeap")) {
                verdicts.atMost("JNI and Java, 1 KB heap write, less the same append from Rust", 0.4, " µs",
                    new Sample.Figure(all.getPercentile(50) - append, all.getMin() - append - apart,
                        all.getMax() - append + apart));
            }
            if (time.getLabel().equals("writeDirect") && bytes != null) {
                verdicts.atMost("allocated by a 1 KB write (the handle)", 120, " bytes",
                    new Sample.Figure(bytes.getScore(), bytes.getScore(), bytes.getScore()));
            }
        }
        verdicts.print(System.out);
        return 0;
    }

    private TimeValue span() {
        return TimeValue.milliseconds((long) (seconds * 1e3));
    }

    /** Microseconds of one append of a process without a JVM: before and after the JVMs' turn. */
    private double fromRust(Path directory) throws Exception {
        Path own = Files.createDirectory(directory.resolve("rust"));
        try (Contender.Session session = Contenders.RUST_OS.open(own, 1 << 10, 1)) {
            return 1e6 / session.round(3 * seconds, iterations * seconds).rate();
        } finally {
            WorkFiles.delete(own);
        }
    }

    private static Result<?> allocated(RunResult result) {
        return result.getSecondaryResults().entrySet().stream().filter(entry -> entry.getKey().contains("alloc.rate.norm"))
            .findFirst().map(java.util.Map.Entry::getValue).orElse(null);
    }
}
