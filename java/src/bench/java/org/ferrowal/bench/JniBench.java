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
    description = {"JMH: time and bytes allocated of one 1 KB write and read, with its storage stubbed out, and on a tmpfs",
        "with durability=os."})
final class JniBench implements Callable<Integer> {
    /** Appends of an iteration in Rust. */
    private static final int RECORDS = 1 << 19;

    @Option(names = "--forks", defaultValue = "3", description = "JVMs (default ${DEFAULT-VALUE}).")
    private int forks;
    @Option(names = "--iterations", defaultValue = "5",
        description = "Counted iterations of each (default ${DEFAULT-VALUE}).")
    private int iterations;
    @Option(names = "--seconds", defaultValue = "1", description = "Length of an iteration (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--memory", defaultValue = "/dev/shm", description = "A directory in memory (default ${DEFAULT-VALUE}).")
    private Path memory;
    @Option(names = "--log", defaultValue = "ferrowal-os", description = "The row; only the default is also measured with its storage "
        + "stubbed out (default ${DEFAULT-VALUE}).")
    private String log;
    @Mixin
    private Workspace space;

    @Override
    public Integer call() throws Exception {
        space.describe();
        if (!Device.isMemory(memory)) {
            throw new BenchException(memory + " is not a tmpfs: name one with --memory");
        }
        Path library = Path.of(System.getProperty("bench.stubbed.library", "target/stubbed/release/libferrowal.so"));
        if (!Files.isReadable(library)) {
            throw new BenchException(library + " is missing: gradle benchPrepare builds it");
        }
        WorkFiles.needSpace(memory, 4L << 30);
        Path directory = Files.createTempDirectory(memory, "ferrowal-bench-");
        try {
            System.out.println();
            System.out.println("### A 1 KB write through JNI: " + log);
            System.out.println();
            System.out.println("What Java and JNI cost is the difference between a write and the same append from Rust, without "
                + "a JVM (half of its iterations before, half after). With the storage stubbed out the log does all its work, "
                + "but what it writes goes nowhere; the others write to a tmpfs, and bareWrite is the kernel's copy alone. "
                + "Median of all iterations, with least and most.");
            System.out.println();
            System.out.println("| | storage | µs | bytes allocated |");
            System.out.println("|---|---|---|---|");
            Verdicts verdicts = new Verdicts();
            if (log.equals(Contenders.RUST_STUBBED.id())) {
                measure(directory, true, List.of("-Dferrowal.native.path=" + library.toAbsolutePath()), verdicts);
            }
            measure(directory, false, List.of(), verdicts);
            verdicts.print(System.out);
        } finally {
            WorkFiles.delete(directory);
        }
        return 0;
    }

    private void measure(Path directory, boolean stubbed, List<String> more, Verdicts verdicts) throws Exception {
        List<String> flags = Child.java();
        String storage = stubbed ? "stubbed out" : "tmpfs";
        List<Double> rust = new ArrayList<>(fromRust(directory, stubbed));
        List<String> own = new ArrayList<>(more);
        own.addAll(List.of("-D" + JniCost.DIRECTORY + "=" + directory, "-D" + JniCost.ROW + "=" + log));
        Collection<RunResult> results = new Runner(new OptionsBuilder().include("\\." + JniCost.class.getSimpleName() + (stubbed ? "\\.write" : "\\."))
            .forks(forks).warmupIterations(3).warmupTime(span()).measurementIterations(iterations).measurementTime(span())
            .verbosity(VerboseMode.SILENT).addProfiler(GCProfiler.class).shouldFailOnError(true)
            // Without the program itself and the class path, which JMH adds.
            .jvmArgs(flags.subList(1, flags.size() - 2).toArray(new String[0]))
            .jvmArgsAppend(own.toArray(new String[0])).build()).run();
        rust.addAll(fromRust(directory, stubbed));
        Sample.Figure append = Sample.Figure.of(rust);
        System.out.printf(Locale.ROOT, "| append from Rust | %s | %s | 0 |%n", storage, append.show(3, 1));
        for (RunResult result : results) {
            Result<?> time = result.getPrimaryResult();
            Result<?> bytes = allocated(result);
            // As everywhere: what something else took from a few iterations is in the spread.
            Statistics all = time.getStatistics();
            System.out.printf(Locale.ROOT, "| %s | %s | %.3f (%.3f–%.3f) | %.0f |%n", time.getLabel(), storage,
                all.getPercentile(50), all.getMin(), all.getMax(), bytes == null ? Double.NaN : bytes.getScore());
            if (stubbed && time.getLabel().equals("writeHeap")) {
                verdicts.atMost("JNI and Java, 1 KB heap write, storage stubbed out, less the same append from Rust", 0.4, " µs",
                    new Sample.Figure(all.getPercentile(50) - append.median(), all.getMin() - append.most(),
                        all.getMax() - append.least()));
            }
            if (stubbed && time.getLabel().equals("writeDirect") && bytes != null) {
                verdicts.atMost("allocated by a 1 KB write (the handle)", 120, " bytes",
                    new Sample.Figure(bytes.getScore(), bytes.getScore(), bytes.getScore()));
            }
        }
    }

    private TimeValue span() {
        return TimeValue.milliseconds((long) (seconds * 1e3));
    }

    /** Microseconds of one append of a process without a JVM: before and after the JVMs' turn. */
    private List<Double> fromRust(Path directory, boolean stubbed) throws Exception {
        Path own = Files.createDirectory(directory.resolve("rust"));
        Contender row = stubbed ? Contenders.RUST_STUBBED : Contenders.RUST_OS;
        List<Double> micros = new ArrayList<>();
        try (Contender.Session session = row.open(own, 1 << 10, 1)) {
            session.write(RECORDS);
            for (int i = 0; i < iterations; i++) {
                long began = System.nanoTime();
                session.write(RECORDS);
                micros.add((System.nanoTime() - began) / 1e3 / RECORDS);
            }
        } finally {
            WorkFiles.delete(own);
        }
        return micros;
    }

    private static Result<?> allocated(RunResult result) {
        return result.getSecondaryResults().entrySet().stream().filter(entry -> entry.getKey().contains("alloc.rate.norm"))
            .findFirst().map(java.util.Map.Entry::getValue).orElse(null);
    }
}
