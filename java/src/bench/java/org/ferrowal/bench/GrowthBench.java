package org.ferrowal.bench;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

import org.HdrHistogram.Histogram;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.LogOptions;
import org.ferrowal.Metrics;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.Load;
import org.ferrowal.bench.rows.Payload;
import org.ferrowal.bench.rows.SparkLog;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Whether a write, a clean, a reader or memory costs more as a log grows. */
@Command(name = "growth", sortOptions = false, usageHelpWidth = 110,
    description = "Write latency and memory over 1 to 10,000 live segments, and over 1 to 1,000 reader instances.")
final class GrowthBench implements Callable<Integer> {
    @Option(names = "--segments", split = ",", defaultValue = "1,10,100,1000,10000",
        description = "Live segments of 1 MiB (default ${DEFAULT-VALUE}).")
    private List<Integer> segments;
    @Option(names = "--readers", split = ",", defaultValue = "1,10,100,1000",
        description = "Instances open at once (default ${DEFAULT-VALUE}).")
    private List<Integer> readers;
    @Option(names = "--writes", defaultValue = "5000", description = "Writes that are timed (default ${DEFAULT-VALUE}).")
    private int writes;
    @Mixin
    private Workspace space;

    private static final int SMALL = 1 << 10;
    private static final int FILLING = 240 << 10;
    private static final int CLEANS = 50;
    private static final int MEMORY_THREADS = 64;
    private static final double MEMORY_SECONDS = 5;
    private static final long SETTLED = TimeUnit.SECONDS.toNanos(3);
    private static final String HELD = "memory.held";
    private static final double MIB = 1 << 20;

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        WorkFiles.needSpace(work, ((long) segments.stream().max(Integer::compare).orElse(1) << 20) * 5 / 4 + (2L << 30));
        Charts charts = new Charts(space.home().resolve("charts"), Contenders.ids());
        segments(work.resolve("segments"), charts);
        readers(work, charts);
        Verdicts verdicts = new Verdicts();
        memory(work, verdicts);
        verdicts.print(System.out);
        return 0;
    }

    /** Native memory for records on their way to the device, by the log's own gauges. */
    private void memory(Path work, Verdicts verdicts) throws Exception {
        System.out.println();
        System.out.println("### Growth: native memory for records on their way to the device (the gauge memory.held)");
        System.out.println();
        System.out.println("| 64 threads | at rest, MiB | at most under load, MiB | waits for memory | at rest again, MiB |");
        System.out.println("|---|---|---|---|---|");
        double rest = 0;
        double most = 0;
        for (int size : new int[] {64 << 10, 4 << 20}) {
            Workspace.progress("growth: memory, records of " + Report.size(size));
            WorkFiles.needSpace(work, 16L << 30);
            Path directory = Files.createDirectory(work.resolve("memory"));
            try (Contender.Session session = Contenders.DEVICE.open(directory, size, MEMORY_THREADS)) {
                session.write(1);
                double before = held(SETTLED);
                long waits = gauge("memory.waits");
                AtomicBoolean over = new AtomicBoolean();
                AtomicLong peak = new AtomicLong();
                Thread watch = new Thread(() -> {
                    while (!over.get()) {
                        peak.accumulateAndGet(gauge(HELD), Math::max);
                        LockSupport.parkNanos(100_000);
                    }
                }, "bench-memory");
                watch.start();
                session.round(0, MEMORY_SECONDS);
                over.set(true);
                watch.join();
                waits = gauge("memory.waits") - waits;
                double after = held(SETTLED);
                System.out.printf(Locale.ROOT, "| of %s | %.1f | %.1f | %,d | %.1f |%n", Report.size(size), before,
                    peak.get() / MIB, waits, after);
                rest = Math.max(rest, Math.max(before, after));
                most = Math.max(most, peak.get() / MIB);
            } finally {
                WorkFiles.delete(directory);
            }
        }
        Workspace.progress("");
        verdicts.atMost("staging memory at rest", 8, " MiB", Sample.Figure.of(List.of(rest)));
        verdicts.atMost("staging memory at most under load", 64, " MiB", Sample.Figure.of(List.of(most)));
    }

    /** What is held once a log has been idle for so long, in MiB: it lets go of spare buffers after a second. */
    private static double held(long nanos) {
        long until = System.nanoTime() + nanos;
        while (System.nanoTime() < until) {
            LockSupport.parkNanos(until - System.nanoTime());
        }
        return gauge(HELD) / MIB;
    }

    private static long gauge(String name) {
        return Metrics.of(LogOptions.Role.RECEIVERS).get(name);
    }

    private void segments(Path directory, Charts charts) throws Exception {
        SparkLog row = Contenders.DEVICE.with(Map.of("spark.ferrowal.segment.size", "1m", "spark.ferrowal.clean.grace", "0s"));
        WriteAheadLog log = row.create(Files.createDirectory(directory));
        byte[] filling = Payload.of(FILLING, 0);
        byte[] small = Payload.of(SMALL, 1);
        Map<String, List<double[]>> lines = new LinkedHashMap<>();
        lines.put("p50", new ArrayList<>());
        lines.put("p99", new ArrayList<>());
        System.out.println();
        System.out.println("### Growth: live segments, one thread, records of 1 KiB");
        System.out.println();
        System.out.println("| live segments | write p50, µs | p99, µs | clean that finds nothing, p50, µs | memory outside of the heap, MB | "
            + "open files | read by handle of the oldest, µs |");
        System.out.println("|---|---|---|---|---|---|---|");
        WriteAheadLogRecordHandle oldest = log.write(ByteBuffer.wrap(small), 1000);
        try {
            for (int wanted : segments) {
                Workspace.progress("growth: " + wanted + " segments");
                // Four of these records fill a segment. To count takes a walk over all of them.
                for (int missing = wanted - live(directory); missing > 0; missing = wanted - live(directory)) {
                    for (int i = 0; i < 2 * missing; i++) {
                        log.write(ByteBuffer.wrap(filling), 1000);
                    }
                }
                Histogram nanos = Load.histogram();
                for (int i = 0; i < writes; i++) {
                    long began = System.nanoTime();
                    log.write(ByteBuffer.wrap(small), 1000);
                    nanos.recordValue(System.nanoTime() - began);
                }
                Histogram cleans = Load.histogram();
                for (int i = 0; i < CLEANS; i++) {
                    long began = System.nanoTime();
                    log.clean(i, true); // Distinct, and below every record's time.
                    cleans.recordValue(System.nanoTime() - began);
                }
                long began = System.nanoTime();
                log.read(oldest);
                double read = (System.nanoTime() - began) / 1e3;
                double p50 = nanos.getValueAtPercentile(50) / 1e3;
                double p99 = nanos.getValueAtPercentile(99) / 1e3;
                System.gc();
                int live = live(directory);
                System.out.printf(Locale.ROOT, "| %,d | %.0f | %.0f | %.0f | %.0f | %d | %.0f |%n", live, p50, p99,
                    cleans.getValueAtPercentile(50) / 1e3, Self.outsideOfHeap() / 1e6, Self.descriptors(), read);
                System.out.flush();
                lines.get("p50").add(new double[] {live, p50});
                lines.get("p99").add(new double[] {live, p99});
            }
        } finally {
            log.close();
            WorkFiles.delete(directory);
        }
        Workspace.progress("");
        space.publish(charts.plain("growth-segments", "A write beside so many live segments (1 KiB, one thread)", "live segments",
            "microseconds", true, lines));
    }

    /** Files of whole segments: what is kept ready is not yet one. */
    private static int live(Path directory) throws Exception {
        int live = 0;
        for (Path file : Cache.files(directory)) {
            if (file.getFileName().toString().endsWith(SEGMENT)) {
                live++;
            }
        }
        return live;
    }

    private static final String SEGMENT = ".seg";

    private void readers(Path work, Charts charts) throws Exception {
        System.out.println();
        System.out.println("### Growth: reader instances open at once, as Spark makes one for each partition (new, read, close)");
        System.out.println();
        System.out.println("| row | instances | µs for one, all three steps | memory outside of the heap, MB | open files |");
        System.out.println("|---|---|---|---|---|");
        Map<String, List<double[]>> lines = new LinkedHashMap<>();
        // It lingers, as it does by default: that is what keeps the next instance cheap.
        for (SparkLog row : List.of(Contenders.DEVICE.with(Map.of("spark.ferrowal.linger", "10s")), Contenders.FILE_BASED)) {
            Path directory = Files.createDirectory(work.resolve("readers-" + row.id()));
            lines.put(row.title(), new ArrayList<>());
            WriteAheadLog writer = row.create(directory);
            WriteAheadLogRecordHandle handle = writer.write(ByteBuffer.wrap(Payload.of(64 << 10, 0)), 1000);
            writer.close();
            for (int count : readers) {
                Workspace.progress("growth: " + count + " readers, " + row.title());
                List<WriteAheadLog> open = new ArrayList<>();
                long began = System.nanoTime();
                for (int i = 0; i < count; i++) {
                    WriteAheadLog log = row.create(directory);
                    log.read(handle);
                    open.add(log);
                }
                long resident = Self.outsideOfHeap();
                long descriptors = Self.descriptors();
                open.forEach(WriteAheadLog::close);
                double micros = (System.nanoTime() - began) / 1e3 / count;
                System.out.printf(Locale.ROOT, "| %s | %,d | %.0f | %.0f | %d |%n", row.title(), count, micros, resident / 1e6,
                    descriptors);
                lines.get(row.title()).add(new double[] {count, micros});
            }
        }
        Workspace.progress("");
        space.publish(charts.plain("growth-readers", "New, read, close, with so many instances open at once", "instances",
            "microseconds for one", true, lines));
    }
}
