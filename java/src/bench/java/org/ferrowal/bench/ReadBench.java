package org.ferrowal.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import com.sun.nio.file.ExtendedOpenOption;

import org.HdrHistogram.Histogram;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.Cpu;
import org.ferrowal.bench.rows.Load;
import org.ferrowal.bench.rows.Payload;
import org.ferrowal.bench.rows.SparkLog;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Reading: everything in order, cold and warm, and single records by handle, beside bare reads of a plain file. */
@Command(name = "read", sortOptions = false, usageHelpWidth = 110,
    description = "readAll of cold and of warm data beside a bare sequential read; reads by handle beside one bare pread.")
final class ReadBench implements Callable<Integer> {
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "64k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--bytes", converter = Workspace.Bytes.class, defaultValue = "2g",
        description = "Bytes in each log (default ${DEFAULT-VALUE}).")
    private long bytes;
    @Option(names = "--reads", defaultValue = "300", description = "Reads by handle in a round (default ${DEFAULT-VALUE}).")
    private int reads;
    @Option(names = "--rounds", defaultValue = "5", description = "Rounds (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Mixin
    private Workspace space;

    private static final int PIECE = 1 << 20;
    private static final int[] DEPTHS = {1, 2, 4};
    private static final int WRITERS = 8;
    private static final long SEED = 7;

    /** What is read, in each way. */
    private static final class Row {
        private final List<Double> cold = new ArrayList<>();
        private final List<Double> warm = new ArrayList<>();
        private final List<Double> warmPerCore = new ArrayList<>();
        private final List<Double> p50 = new ArrayList<>();
        private final List<Double> p99 = new ArrayList<>();
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        space.describe();
        WorkFiles.needSpace(work, 3 * bytes + (4L << 30));
        System.out.println("Cold: " + Cache.WORDS + ". The bare sequential read is the best of a buffered read in pieces of 1 MiB "
            + "and of direct ones at queue depth 1, 2 and 4. The bare pread is of " + Report.size(size)
            + " of a plain file, at a multiple of 4 KiB. Reads by handle of all rows and the bare one take turns.");
        List<SparkLog> logs = List.of(Contenders.DEVICE, Contenders.FILE_BASED);
        Path plain = Files.createDirectory(work.resolve("plain"));
        fillPlain(plain.resolve("file"));
        Map<SparkLog, List<WriteAheadLogRecordHandle>> handles = new LinkedHashMap<>();
        for (SparkLog log : logs) {
            Workspace.progress("read: writing " + Report.size(bytes) + " to " + log.title());
            handles.put(log, fill(log, Files.createDirectory(work.resolve(log.id()))));
        }
        WorkFiles.writeBack(work);
        Map<SparkLog, Row> rows = new LinkedHashMap<>();
        logs.forEach(log -> rows.put(log, new Row()));
        Row bare = new Row();
        List<Double> verify = new ArrayList<>();
        String best = "";
        for (int round = 1; round <= rounds; round++) {
            Workspace.progress("read, round " + round + " of " + rounds);
            double fastest = 0;
            for (int depth = 0; depth <= DEPTHS.length; depth++) {
                Cache.drop(plain);
                double rate = sequential(plain.resolve("file"), depth == 0 ? 0 : DEPTHS[depth - 1]);
                if (rate > fastest) {
                    fastest = rate;
                    best = depth == 0 ? "buffered" : "O_DIRECT, " + DEPTHS[depth - 1] + " in flight";
                }
            }
            bare.cold.add(fastest);
            for (SparkLog log : logs) {
                Cache.drop(work.resolve(log.id()));
                readAll(log, work.resolve(log.id()), rows.get(log).cold, null);
                readAll(log, work.resolve(log.id()), rows.get(log).warm, rows.get(log).warmPerCore);
            }
            Cache.drop(work.resolve(Contenders.DEVICE.id()));
            verify.add(verify(work.resolve(Contenders.DEVICE.id())));
            random(work, plain.resolve("file"), handles, rows, bare, round);
        }
        Workspace.progress("");
        print(rows, bare, best, verify);
        return 0;
    }

    private void fillPlain(Path path) throws IOException {
        ByteBuffer random = ByteBuffer.wrap(Payload.of(PIECE, 0));
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            for (long at = 0; at < bytes; at += PIECE) {
                file.write(random.rewind());
            }
            file.force(true);
        }
    }

    private List<WriteAheadLogRecordHandle> fill(SparkLog row, Path directory) throws Exception {
        WriteAheadLog log = row.create(directory);
        List<WriteAheadLogRecordHandle> handles = new ArrayList<>();
        ExecutorService writers = Executors.newFixedThreadPool(WRITERS);
        try {
            List<Future<List<WriteAheadLogRecordHandle>>> parts = new ArrayList<>();
            AtomicLong left = new AtomicLong(bytes / size);
            for (int i = 0; i < WRITERS; i++) {
                byte[] record = Payload.of((int) size, i);
                parts.add(writers.submit(() -> {
                    List<WriteAheadLogRecordHandle> own = new ArrayList<>();
                    while (left.getAndDecrement() > 0) {
                        own.add(log.write(ByteBuffer.wrap(record), System.currentTimeMillis()));
                    }
                    return own;
                }));
            }
            for (Future<List<WriteAheadLogRecordHandle>> part : parts) {
                handles.addAll(part.get());
            }
        } finally {
            writers.shutdown();
            log.close();
        }
        return handles;
    }

    /** Bytes a second of a whole file; depth 0 is a buffered read. */
    private double sequential(Path path, int depth) throws Exception {
        Set<java.nio.file.OpenOption> options = depth == 0 ? Set.of(StandardOpenOption.READ)
            : Set.of(StandardOpenOption.READ, ExtendedOpenOption.DIRECT);
        try (FileChannel file = FileChannel.open(path, options)) {
            AtomicLong cursor = new AtomicLong();
            long length = file.size() / PIECE * PIECE;
            ExecutorService readers = Executors.newFixedThreadPool(Math.max(depth, 1));
            long began = System.nanoTime();
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < Math.max(depth, 1); i++) {
                all.add(readers.submit(() -> {
                    ByteBuffer buffer = ByteBuffer.allocateDirect(PIECE + Device.BLOCK).alignedSlice(Device.BLOCK).limit(PIECE);
                    for (long at = cursor.getAndAdd(PIECE); at < length; at = cursor.getAndAdd(PIECE)) {
                        readFully(file, buffer.clear().limit(PIECE), at);
                    }
                    return null;
                }));
            }
            for (Future<?> one : all) {
                one.get();
            }
            double seconds = (System.nanoTime() - began) / 1e9;
            readers.shutdown();
            return length / seconds;
        }
    }

    private static void readFully(FileChannel file, ByteBuffer buffer, long at) throws IOException {
        while (buffer.hasRemaining()) {
            if (file.read(buffer, at + buffer.position()) < 0) {
                throw new IOException("the file ends early");
            }
        }
    }

    private void readAll(SparkLog row, Path directory, List<Double> rates, List<Double> perCore) {
        WriteAheadLog log = row.create(directory);
        long cpu = Cpu.nanos();
        long began = System.nanoTime();
        long read = 0;
        long records = 0;
        for (Iterator<ByteBuffer> all = log.readAll(); all.hasNext(); records++) {
            read += all.next().remaining();
        }
        double seconds = (System.nanoTime() - began) / 1e9;
        cpu = Cpu.nanos() - cpu;
        log.close();
        if (records != bytes / size) {
            throw new BenchException(row.title() + " gave back " + records + " of " + bytes / size + " records");
        }
        rates.add(read / seconds);
        if (perCore != null) {
            perCore.add(read / (cpu / 1e9));
        }
    }

    /** Bytes a second that the tool checks, as it says itself: how long a JVM takes to start is no matter of the log. */
    private static double verify(Path directory) throws IOException, InterruptedException {
        List<String> line = Child.java();
        line.addAll(List.of("org.ferrowal.Main", "verify", "--json", directory.toString()));
        Process child = new ProcessBuilder(line).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        String said = new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int code = child.waitFor();
        if (code != 0) {
            throw new BenchException("ferrowal verify ended with " + code + ": " + said);
        }
        return number(said, "bytesRead") / number(said, "seconds");
    }

    private static double number(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": *([-+.0-9eE]+)").matcher(json);
        if (!found.find()) {
            throw new BenchException("ferrowal verify says no " + name);
        }
        return Double.parseDouble(found.group(1));
    }

    private void random(Path work, Path plain, Map<SparkLog, List<WriteAheadLogRecordHandle>> handles, Map<SparkLog, Row> rows,
            Row bare, int round) throws IOException, InterruptedException {
        Cache.drop(work);
        SplittableRandom random = new SplittableRandom(SEED + round);
        Map<SparkLog, WriteAheadLog> open = new LinkedHashMap<>();
        Map<SparkLog, Histogram> times = new LinkedHashMap<>();
        handles.keySet().forEach(row -> {
            open.put(row, row.create(work.resolve(row.id())));
            times.put(row, Load.histogram());
        });
        Histogram own = Load.histogram();
        try (FileChannel file = FileChannel.open(plain, StandardOpenOption.READ)) {
            ByteBuffer buffer = ByteBuffer.allocateDirect((int) size);
            for (int i = 0; i < reads; i++) {
                long at = random.nextLong((bytes - size) / Device.BLOCK) * Device.BLOCK;
                long began = System.nanoTime();
                readFully(file, buffer.clear(), at);
                own.recordValue(System.nanoTime() - began);
                for (Map.Entry<SparkLog, WriteAheadLog> log : open.entrySet()) {
                    List<WriteAheadLogRecordHandle> all = handles.get(log.getKey());
                    WriteAheadLogRecordHandle handle = all.get(random.nextInt(all.size()));
                    began = System.nanoTime();
                    int length = log.getValue().read(handle).remaining();
                    long nanos = System.nanoTime() - began;
                    if (length != size) {
                        throw new BenchException(log.getKey().title() + " gave back a record of " + length + " bytes");
                    }
                    times.get(log.getKey()).recordValue(nanos);
                }
            }
        }
        open.values().forEach(WriteAheadLog::close);
        bare.p50.add(own.getValueAtPercentile(50) / 1e3);
        bare.p99.add(own.getValueAtPercentile(99) / 1e3);
        times.forEach((row, nanos) -> {
            rows.get(row).p50.add(nanos.getValueAtPercentile(50) / 1e3);
            rows.get(row).p99.add(nanos.getValueAtPercentile(99) / 1e3);
        });
    }

    private void print(Map<SparkLog, Row> rows, Row bare, String best, List<Double> verify) {
        System.out.println();
        System.out.println("### Reading " + Report.size(bytes) + " of records of " + Report.size(size));
        System.out.println();
        System.out.println("| row | all, cold, MB/s | all, warm, MB/s | warm, MB for a second of CPU | by handle, cold, p50, µs | "
            + "p99, µs |");
        System.out.println("|---|---|---|---|---|---|");
        line("bare reads (" + best + ")", bare);
        rows.forEach((log, row) -> line(log.title(), row));
        System.out.println("| ferrowal verify (the tool) | " + Sample.Figure.of(verify).show(0, 1e-6) + " | | | | |");
        Row ours = rows.get(Contenders.DEVICE);
        Verdicts verdicts = new Verdicts();
        verdicts.atLeast("readAll, cold", 0.90, " × the device's sequential read", ratio(ours.cold, bare.cold));
        verdicts.atLeast("readAll, warm", 2, " GB/s a core",
            Sample.Figure.of(ours.warmPerCore.stream().map(rate -> rate / 1e9).toList()));
        verdicts.atMost("read(handle), " + Report.size(size) + ", cold, p50", 1.1, " × one bare pread", ratio(ours.p50, bare.p50));
        verdicts.atLeast("ferrowal verify, cold", 0.80, " × the device's sequential read", ratio(verify, bare.cold));
        verdicts.print(System.out);
    }

    private static Sample.Figure ratio(List<Double> ours, List<Double> theirs) {
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < ours.size(); i++) {
            ratios.add(ours.get(i) / theirs.get(i));
        }
        return Sample.Figure.of(ratios);
    }

    private static void line(String title, Row row) {
        System.out.println("| " + String.join(" | ", title, Sample.Figure.of(row.cold).show(0, 1e-6),
            Sample.Figure.of(row.warm).show(0, 1e-6), Sample.Figure.of(row.warmPerCore).show(0, 1e-6),
            Sample.Figure.of(row.p50).show(0, 1), Sample.Figure.of(row.p99).show(0, 1)) + " |");
    }
}
