package org.ferrowal.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Stream;

import org.ferrowal.Log;
import org.ferrowal.LogOptions;
import org.ferrowal.LogOptions.Compression;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.JvmLog;
import org.ferrowal.bench.rows.Load;
import org.ferrowal.bench.rows.Payload;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** What compression and encryption cost, or gain. */
@Command(name = "codecs", sortOptions = false, usageHelpWidth = 110,
    description = "Throughput with LZ4, Zstandard and AES-256-GCM beside the same records kept as they are: text and random bytes.")
final class CodecsBench implements Callable<Integer> {
    @Option(names = "--sizes", split = ",", converter = Workspace.Bytes.class, defaultValue = "64k,1m",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private List<Long> sizes;
    @Option(names = "--threads", defaultValue = "4", description = "Threads that write (default ${DEFAULT-VALUE}).")
    private int threads;
    @Option(names = "--seconds", defaultValue = "2", description = "Length of a round (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = "--rounds", defaultValue = "5", description = "Rounds (default ${DEFAULT-VALUE}).")
    private int rounds;
    @Option(names = "--text", defaultValue = ".", description = "Text is made of the sources, .rs, .java and .md, below this "
        + "directory (default ${DEFAULT-VALUE}).")
    private Path sources;
    @Mixin
    private Workspace space;

    private static final double RAMP_SECONDS = 1;
    /** No secret: it encrypts what the benchmark deletes. */
    private static final String KEY = "hex:" + "5a".repeat(32);

    private enum Codec {
        PLAIN("plain", Compression.NONE, false), LZ4("LZ4", Compression.LZ4, false),
        ZSTD("Zstandard, level 1", Compression.ZSTD, false), AES("AES-256-GCM", Compression.NONE, true),
        LZ4_AES("LZ4, then AES-256-GCM", Compression.LZ4, true);

        private final String words;
        private final Compression compression;
        private final boolean encrypted;

        Codec(String words, Compression compression, boolean encrypted) {
            this.words = words;
            this.compression = compression;
            this.encrypted = encrypted;
        }

        private LogOptions options(Path directory) {
            LogOptions options = LogOptions.in(directory, LogOptions.Role.RECEIVERS).cleanGrace(Duration.ofSeconds(1))
                .linger(Duration.ZERO).compression(compression);
            return encrypted ? options.encryption(KEY) : options;
        }
    }

    @Override
    public Integer call() throws Exception {
        Path work = space.work();
        byte[] text = text(sources);
        space.describe();
        System.out.println("Text: " + Report.size(text.length) + " of this project's own sources, cut into records. Each round "
            + "takes the rows in turn, each with a log of its own that is cleaned once a second; shares are those of one round.");
        for (long size : sizes) {
            for (boolean isText : new boolean[] {true, false}) {
                cell(work, (int) size, isText ? "text" : "random bytes", records((int) size, isText ? text : null));
            }
        }
        Workspace.progress("");
        return 0;
    }

    private void cell(Path work, int size, String what, byte[][] records) throws Exception {
        Map<Codec, List<Sample>> samples = new EnumMap<>(Codec.class);
        for (int round = 1; round <= rounds; round++) {
            for (Codec codec : Codec.values()) {
                Workspace.progress("codecs, " + Report.size(size) + " of " + what + ", round " + round + " of " + rounds + ": "
                    + codec.words);
                WorkFiles.needSpace(work, (long) (2e9 * (seconds + RAMP_SECONDS)) + (2L << 30));
                Path directory = Files.createDirectory(work.resolve("codecs"));
                try (Load load = new Load(new Writes(Log.open(codec.options(directory))), records)) {
                    Contender.Round one = load.round(RAMP_SECONDS, seconds);
                    samples.computeIfAbsent(codec, key -> new ArrayList<>())
                        .add(Sample.of(one.rate(), one.nanos(), one.cpuMicros()));
                } finally {
                    WorkFiles.delete(directory);
                    WorkFiles.writeBack(work);
                }
            }
        }
        Workspace.progress("");
        System.out.println();
        System.out.println("### Records of " + Report.size(size) + ", " + what + ", " + threads + " threads");
        System.out.println();
        System.out.println("| kept | MB/s of records | percent of plain | bytes kept, percent | p50, µs | p99, µs | CPU, µs a record |");
        System.out.println("|---|---|---|---|---|---|---|");
        List<Sample> plain = samples.get(Codec.PLAIN);
        for (Map.Entry<Codec, List<Sample>> row : samples.entrySet()) {
            List<Sample> own = row.getValue();
            List<Double> shares = new ArrayList<>();
            for (int i = 0; i < own.size(); i++) {
                shares.add(own.get(i).rate() / plain.get(i).rate());
            }
            System.out.println("| " + String.join(" | ", row.getKey().words,
                Sample.Figure.of(own, Sample::rate).show(0, size / 1e6), Sample.Figure.of(shares).show(0, 100),
                String.format("%.0f", 100 * kept(work, row.getKey(), records)), Sample.Figure.of(own, Sample::p50).show(0, 1),
                Sample.Figure.of(own, Sample::p99).show(0, 1), Sample.Figure.of(own, Sample::cpu).show(0, 1)) + " |");
        }
    }

    /** What the records take in a sealed log, as a share of their bytes. */
    private static double kept(Path work, Codec codec, byte[][] records) throws IOException {
        Path directory = Files.createDirectory(work.resolve("kept"));
        long bytes = 0;
        try (Log log = Log.open(codec.options(directory).durability(LogOptions.Durability.OS))) {
            for (int i = 0; i < 8; i++) {
                for (byte[] record : records) {
                    log.append(ByteBuffer.wrap(record), i);
                    bytes += record.length;
                }
            }
        }
        try (Stream<Path> files = Files.walk(directory)) {
            long taken = 0;
            for (Path file : files.filter(path -> path.toString().endsWith(".seg")).toList()) {
                taken += Files.size(file);
            }
            return taken / (double) bytes;
        } finally {
            WorkFiles.delete(directory);
        }
    }

    private byte[][] records(int size, byte[] text) {
        byte[][] records = new byte[threads][];
        for (int i = 0; i < threads; i++) {
            if (text == null) {
                records[i] = Payload.of(size, i);
                continue;
            }
            records[i] = new byte[size];
            for (int at = 0, from = (int) ((long) i * text.length / threads); at < size;) {
                int n = Math.min(size - at, text.length - from);
                System.arraycopy(text, from, records[i], at, n);
                at += n;
                from = (from + n) % text.length;
            }
        }
        return records;
    }

    /** All sources of the project, in an order that does not change. */
    private static byte[] text(Path root) throws IOException {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (String part : List.of("src", "java", "docs", "tests")) {
            Path directory = root.resolve(part);
            if (!Files.isDirectory(directory)) {
                continue;
            }
            try (Stream<Path> files = Files.walk(directory)) {
                for (Path file : files.filter(path -> path.toString().matches(".*\\.(rs|java|md)")).sorted().toList()) {
                    all.write(Files.readAllBytes(file));
                }
            }
        }
        if (all.size() < 1 << 20) {
            throw new BenchException("there is not enough text below " + Workspace.shown(root) + ": name the project with --text");
        }
        return all.toByteArray();
    }

    /** Ferrowal's own log, without Spark's classes. */
    private record Writes(Log log) implements JvmLog.Appender {
        @Override
        public void write(byte[] record, long time) {
            log.append(ByteBuffer.wrap(record), time);
        }

        @Override
        public void clean(long threshold) {
            log.clean(threshold, false);
        }

        @Override
        public void close() {
            log.close();
        }
    }
}
