package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

import org.apache.spark.streaming.util.WriteAheadLog;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.JvmLog;
import org.ferrowal.bench.rows.SparkLog;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** What cleaning costs those who write meanwhile. */
@Command(name = "clean", sortOptions = false, usageHelpWidth = 110,
    description = "Write latency while nobody cleans, while a thread cleans once a second, and while it cleans all the time.")
final class CleanBench implements Callable<Integer> {
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "64k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--threads", defaultValue = "8", description = "Threads that write (default ${DEFAULT-VALUE}).")
    private int threads;
    @Option(names = "--seconds", defaultValue = "4", description = "Length of a round (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--rounds", defaultValue = "5", description = "Rounds (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Mixin
    private Workspace space;

    private static final double RAMP_SECONDS = 0.5;
    private static final long TRAIL_MILLIS = 500;

    /** How often the cleaning thread calls, in milliseconds; 0 is never. */
    private enum Cleaning {
        NEVER("nobody cleans", 0, false), EACH_SECOND("once a second", 1000, false),
        ALL_THE_TIME("every 20 ms", 20, false), WAITING("every 20 ms, waiting for it", 20, true);

        private final String words;
        private final long millis;
        private final boolean wait;

        Cleaning(String words, long millis, boolean wait) {
            this.words = words;
            this.millis = millis;
            this.wait = wait;
        }
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        System.out.println("Each round has a log of its own, which rolls every second, with the threshold half a second back and "
            + "no grace: there is always something to clean.");
        Map<String, String> rolling = Map.of("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs", "1");
        List<SparkLog> rows = List.of(Contenders.DEVICE.with(rolling).with(Map.of("spark.ferrowal.clean.grace", "0s")),
            Contenders.FILE_BASED.with(rolling));
        Map<SparkLog, Map<Cleaning, List<Sample>>> all = new LinkedHashMap<>();
        for (int round = 1; round <= rounds; round++) {
            for (SparkLog row : rows) {
                for (Cleaning cleaning : Cleaning.values()) {
                    Workspace.progress("clean, round " + round + " of " + rounds + ": " + row.title() + ", " + cleaning.words);
                    WorkFiles.needSpace(work, (long) (2e9 * (seconds + 1)) + (2L << 30));
                    Path directory = Files.createDirectory(work.resolve("clean"));
                    Sample sample = run(row, cleaning, directory);
                    WorkFiles.delete(directory);
                    WorkFiles.writeBack(work);
                    all.computeIfAbsent(row, key -> new LinkedHashMap<>()).computeIfAbsent(cleaning, key -> new ArrayList<>())
                        .add(sample);
                }
            }
        }
        Workspace.progress("");
        System.out.println();
        System.out.println("### Writes while the log is cleaned, records of " + Report.size(size) + ", " + threads + " threads");
        System.out.println();
        System.out.println("| row | cleaned | records/s | p50, µs | p99, µs | longest, ms |");
        System.out.println("|---|---|---|---|---|---|");
        all.forEach((row, kinds) -> kinds.forEach((cleaning, samples) -> System.out.println("| " + String.join(" | ",
            row.title(), cleaning.words, Sample.Figure.of(samples, Sample::rate).show(0, 1),
            Sample.Figure.of(samples, Sample::p50).show(0, 1), Sample.Figure.of(samples, Sample::p99).show(0, 1),
            Sample.Figure.of(samples, Sample::longest).show(1, 1e-3)) + " |")));
        return 0;
    }

    private Sample run(SparkLog row, Cleaning cleaning, Path directory) throws Exception {
        WriteAheadLog log = row.create(directory);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        Thread cleaner = new Thread(() -> {
            try {
                while (!Thread.currentThread().isInterrupted()) {
                    log.clean(System.currentTimeMillis() - TRAIL_MILLIS, cleaning.wait);
                    LockSupport.parkNanos(cleaning.millis * 1_000_000);
                }
            } catch (RuntimeException e) {
                failure.compareAndSet(null, e);
            }
        }, "bench-clean");
        Contender writers = new Uncleaned(row, log);
        try (Contender.Session session = writers.open(directory, (int) size, threads)) {
            if (cleaning.millis > 0) {
                cleaner.start();
            }
            Contender.Round round = session.round(RAMP_SECONDS, seconds);
            if (cleaning.millis > 0) {
                cleaner.interrupt();
                cleaner.join();
            }
            if (failure.get() != null) {
                throw new BenchException(row.title() + " could not be cleaned: " + failure.get(), failure.get());
            }
            return Sample.of(round.rate(), round.nanos(), round.cpuMicros());
        }
    }

    /** A log that is open already, and cleaned by somebody else. */
    private record Uncleaned(SparkLog row, WriteAheadLog log) implements JvmLog {
        @Override
        public String id() {
            return row.id();
        }

        @Override
        public String title() {
            return row.title();
        }

        @Override
        public boolean durable() {
            return row.durable();
        }

        @Override
        public String words() {
            return row.words();
        }

        @Override
        public Appender open(Path directory, int size) {
            return new Appender() {
                @Override
                public void write(byte[] record, long time) {
                    log.write(ByteBuffer.wrap(record), time);
                }

                @Override
                public void clean(long threshold) {
                    // By the thread that is measured.
                }

                @Override
                public void close() {
                    log.close();
                }
            };
        }
    }
}
