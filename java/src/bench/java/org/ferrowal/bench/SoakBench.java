package org.ferrowal.bench;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;

import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.JvmLog;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Steady writing and cleaning for a long time: whether anything grows. */
@Command(name = "soak", sortOptions = false, usageHelpWidth = 110,
    description = "Steady writing and cleaning for hours; memory, open files, disk and latency of each minute, as CSV.")
final class SoakBench implements Callable<Integer> {
    @Option(names = "--minutes", defaultValue = "60", description = "How long (default ${DEFAULT-VALUE}).")
    private int minutes;
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "16k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--threads", defaultValue = "8", description = "Threads that write (default ${DEFAULT-VALUE}).")
    private int threads;
    @Option(names = "--rate", defaultValue = "2000",
        description = "Records a second, of all threads; 0 for as many as they can (default ${DEFAULT-VALUE}).")
    private int rate;
    @Option(names = "--minute", defaultValue = "60", hidden = true)
    private double minute;
    @Option(names = "--log", defaultValue = "ferrowal", description = "The row (default ${DEFAULT-VALUE}).")
    private String id;
    @Mixin
    private Workspace space;

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        if (!(Contenders.byId(id) instanceof JvmLog log)) {
            throw new BenchException(id + " does not run in this JVM");
        }
        WorkFiles.needSpace(work, 8L << 30);
        Path directory = Files.createDirectory(work.resolve("soak"));
        Path csv = space.home().resolve("soak.csv");
        List<String> lines = new ArrayList<>(List.of(
            "minute,records_per_s,p50_us,p99_us,longest_us,outside_of_heap_mb,heap_mb,descriptors,disk_mb"));
        Map<String, List<double[]>> latency = new LinkedHashMap<>();
        Map<String, List<double[]>> memory = new LinkedHashMap<>();
        for (String line : List.of("p50", "p99")) {
            latency.put(line, new ArrayList<>());
        }
        memory.put("memory outside of the heap, MB", new ArrayList<>());
        memory.put("disk, MB", new ArrayList<>());
        System.out.println(lines.get(0));
        try (Contender.Session session = log.open(directory, (int) size, threads, rate / (double) threads)) {
            for (int i = 1; i <= minutes; i++) {
                WorkFiles.needSpace(directory, 4L << 30);
                Workspace.progress("soak, minute " + i + " of " + minutes);
                Contender.Round round = session.round(0, minute);
                Workspace.progress("");
                Sample sample = Sample.of(round.rate(), round.nanos(), round.cpuMicros());
                System.gc();
                double outside = Self.outsideOfHeap() / 1e6;
                double disk = Cache.size(directory) / 1e6;
                Runtime heap = Runtime.getRuntime();
                String line = String.format(Locale.ROOT, "%d,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%d,%.1f", i, sample.rate(),
                    sample.p50(), sample.p99(), sample.longest(), outside, (heap.totalMemory() - heap.freeMemory()) / 1e6,
                    Self.descriptors(), disk);
                lines.add(line);
                System.out.println(line);
                System.out.flush();
                Files.write(csv, lines); // Each minute: what was measured stays, whatever comes.
                latency.get("p50").add(new double[] {i, sample.p50()});
                latency.get("p99").add(new double[] {i, sample.p99()});
                memory.get("memory outside of the heap, MB").add(new double[] {i, outside});
                memory.get("disk, MB").add(new double[] {i, disk});
            }
        }
        Charts charts = new Charts(space.home().resolve("charts"), Contenders.ids());
        space.publish(charts.plain("soak-latency", "Steady writing and cleaning: time of a write", "minutes", "microseconds",
            false, latency));
        space.publish(charts.plain("soak-memory", "Steady writing and cleaning: memory and disk", "minutes", "MB", false, memory));
        System.out.println();
        System.out.println("Each minute: " + Workspace.shown(csv));
        return 0;
    }
}
