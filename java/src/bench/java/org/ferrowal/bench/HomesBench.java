package org.ferrowal.bench;

import java.io.IOException;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.ferrowal.bench.rows.Contender;
import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.JvmLog;
import org.ferrowal.bench.rows.Load;
import org.ferrowal.bench.rows.SparkLog;

import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** ferrowal beside Spark's own log in a store that a cluster shares: what {@code FERROWAL_TEST_STORE} names. */
@Command(name = "homes", sortOptions = false, usageHelpWidth = 110,
    description = "Writers of the receivers' log in HDFS or S3, beside Spark's FileBased log with closeFileAfterWrite in the "
        + "same one. make bench-homes starts the servers.")
final class HomesBench implements Callable<Integer> {
    @Option(names = "--writers", defaultValue = "8", description = "Threads that write (default ${DEFAULT-VALUE}).")
    private int writers;
    @Option(names = "--size", converter = Workspace.Bytes.class, defaultValue = "16k",
        description = "Bytes in a record (default ${DEFAULT-VALUE}).")
    private long size;
    @Option(names = "--rounds", defaultValue = "5", description = "Counted rounds of each row; one uncounted round comes first "
        + "(default ${DEFAULT-VALUE}).")
    private int rounds;
    @Option(names = "--seconds", defaultValue = "5", description = "Length of a round (default ${DEFAULT-VALUE}).")
    private double seconds;
    @Option(names = {"-h", "--help"}, usageHelp = true, description = "Shows this.")
    private boolean help;

    /** Single writes, each beside a bare one, in a round of the latency. */
    private static final int PAIRS = 200;

    private final Map<String, String> keys = new TreeMap<>();
    private final Configuration hadoop = new Configuration();
    private String uri;

    @Override
    public Integer call() throws Exception {
        String[] said = System.getenv().getOrDefault("FERROWAL_TEST_STORE", "").trim().split(" +");
        if (said[0].isEmpty()) {
            throw new BenchException("FERROWAL_TEST_STORE names no store: tests/homes/with-store s3|hdfs COMMAND sets it, and "
                + "make bench-homes does that");
        }
        uri = said[0] + "/bench-" + Long.toHexString(System.nanoTime());
        Arrays.stream(said).skip(1).map(word -> word.split("=", 2)).forEach(pair -> keys.put(pair[0], pair[1]));
        // Three DataNodes, and one that dies is not replaced: what a small cluster needs.
        hadoop.set("dfs.client.block.write.replace-datanode-on-failure.best-effort", "true");
        // Nothing is deleted behind a write: fewer requests for Spark's log, and versitygw refuses those of this client's SDK.
        hadoop.set("fs.s3a.directory.marker.retention", "keep");
        keys.forEach(hadoop::set);
        System.out.println("### " + writers + " writers of " + Report.size(size) + ", "
            + said[0].replaceAll("://.*", "://"));
        System.out.println();
        System.out.println(Machine.load() + " was the load average at the start. " + rounds + " rounds of " + seconds
            + " s each, the two logs in turn; before them one that is not counted.");
        System.out.println();
        Verdicts verdicts = new Verdicts();
        throughput(verdicts);
        if (uri.startsWith("hdfs:")) {
            latency(verdicts);
        }
        verdicts.print(System.out);
        return 0;
    }

    private SparkLog ferrowal() {
        Map<String, String> conf = new TreeMap<>(Contenders.DEVICE.conf());
        keys.forEach((key, value) -> conf.put("spark.hadoop." + key, value));
        return new SparkLog("ferrowal", "ferrowal", true, "", false, conf);
    }

    private void throughput(Verdicts verdicts) throws InterruptedException {
        SparkLog close = (SparkLog) Contenders.byId("filebased-close");
        List<Double> ours = new ArrayList<>();
        List<Double> theirs = new ArrayList<>();
        List<Double> ratios = new ArrayList<>();
        List<Sample> oursTimes = new ArrayList<>();
        List<Sample> theirsTimes = new ArrayList<>();
        try (Load log = load(ferrowal(), "/ferrowal"); Load spark = load(close, "/spark")) {
            for (int round = 0; round <= rounds; round++) {
                Workspace.progress("round " + round + " of " + rounds);
                Contender.Round first = log.round(0.5, seconds);
                Contender.Round second = spark.round(0.5, seconds);
                if (round > 0) {
                    ours.add(first.rate());
                    theirs.add(second.rate());
                    ratios.add(first.rate() / second.rate());
                    oursTimes.add(Sample.of(first.rate(), first.nanos(), first.cpuMicros()));
                    theirsTimes.add(Sample.of(second.rate(), second.nanos(), second.cpuMicros()));
                }
            }
        }
        Workspace.progress("");
        System.out.println("| | records/s | p50, ms | p99, ms |");
        System.out.println("|---|---|---|---|");
        row("ferrowal", ours, oursTimes);
        row(close.title(), theirs, theirsTimes);
        System.out.println();
        verdicts.atLeast(writers + " writers over Spark's FileBased with closeFileAfterWrite", 4, " ×", Sample.Figure.of(ratios));
    }

    private static void row(String title, List<Double> rates, List<Sample> times) {
        System.out.println("| " + title + " | " + Sample.Figure.of(rates).show(0, 1) + " | "
            + Sample.Figure.of(times, Sample::p50).show(1, 1e-3) + " | " + Sample.Figure.of(times, Sample::p99).show(1, 1e-3)
            + " |");
    }

    private Load load(SparkLog row, String name) {
        WriteAheadLog log = row.create(uri + name, hadoop);
        // Spark's log names a file by its record's time, and fails where two records have the same.
        AtomicLong clock = new AtomicLong(System.currentTimeMillis());
        JvmLog.Appender appender = new JvmLog.Appender() {
            @Override
            public void write(byte[] record, long time) {
                if (log.write(java.nio.ByteBuffer.wrap(record), clock.incrementAndGet()) == null) {
                    throw new BenchException(row.title() + " returned no handle");
                }
            }

            @Override
            public void clean(long threshold) {
                // Neither is cleaned: in HDFS and stores that is the NameNode's, or the store's, own time.
            }

            @Override
            public void close() {
                log.close();
            }
        };
        byte[][] records = new byte[writers][(int) size];
        for (int i = 0; i < writers; i++) {
            new java.util.Random(i).nextBytes(records[i]);
        }
        return new Load(appender, records);
    }

    /** One record a group, each beside a bare write and hsync of as many bytes. */
    private void latency(Verdicts verdicts) throws IOException {
        List<Double> bare = new ArrayList<>();
        List<Double> logged = new ArrayList<>();
        List<Double> ratios = new ArrayList<>();
        byte[] record = new byte[(int) size];
        new java.util.Random(7).nextBytes(record);
        WriteAheadLog log = ferrowal().create(uri + "/latency", hadoop);
        try (FileSystem system = FileSystem.newInstance(URI.create(uri), hadoop);
             FSDataOutputStream out = system.create(new Path(uri + "/bare"), false)) {
            for (int round = 0; round <= rounds; round++) {
                long[] theirs = new long[PAIRS];
                long[] ours = new long[PAIRS];
                for (int i = 0; i < PAIRS; i++) {
                    long t0 = System.nanoTime();
                    out.write(record);
                    out.hsync();
                    long t1 = System.nanoTime();
                    log.write(java.nio.ByteBuffer.wrap(record), System.currentTimeMillis());
                    long t2 = System.nanoTime();
                    theirs[i] = t1 - t0;
                    ours[i] = t2 - t1;
                }
                Arrays.sort(theirs);
                Arrays.sort(ours);
                if (round > 0) {
                    bare.add(theirs[PAIRS / 2] / 1e6);
                    logged.add(ours[PAIRS / 2] / 1e6);
                    ratios.add((double) ours[PAIRS / 2] / theirs[PAIRS / 2]);
                }
            }
        } finally {
            log.close();
        }
        System.out.println("One writer, " + PAIRS + " writes a round, in turn: bare write and hsync p50 "
            + Sample.Figure.of(bare).show(2, 1) + " ms, ferrowal p50 " + Sample.Figure.of(logged).show(2, 1) + " ms.");
        verdicts.atMost("one writer over a bare write and hsync, p50", 1.3, " ×", Sample.Figure.of(ratios));
    }
}
