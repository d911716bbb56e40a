package org.ferrowal.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.ToDoubleFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.ferrowal.bench.rows.Contenders;
import org.ferrowal.bench.rows.Payload;

import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/**
 * What the metrics of a real application look like: one with the plugin, whose page for Prometheus is read each second. It
 * goes steadily; for a while its receivers store as fast as they can; later another program writes to the same device.
 */
@Command(name = "metrics", sortOptions = false, usageHelpWidth = 110,
    description = "A Spark application's metrics over some minutes, by its page for Prometheus, as CSV and charts.")
final class MetricsBench implements Callable<Integer> {
    @Option(names = "--seconds", defaultValue = "180", description = "How long, a minute at least (default ${DEFAULT-VALUE}).")
    private int seconds;
    @Option(names = "--receivers", defaultValue = "3", description = "Receivers, a core each (default ${DEFAULT-VALUE}).")
    private int receivers;
    @Option(names = "--block", defaultValue = "250", description = "Records of 1 KiB in a block (default ${DEFAULT-VALUE}).")
    private int block;
    @Option(names = "--pause", defaultValue = "50",
        description = "Milliseconds from a receiver's block to its next (default ${DEFAULT-VALUE}).")
    private long pause;
    @Option(names = "--csv", description = "Runs nothing, and draws what an earlier run left in this file.")
    private Path csv;
    @Mixin
    private Workspace space;

    private static final int RECORD = 1 << 10;
    private static final double MIB = 1 << 20;
    private static final long BOUND_S = 120;
    /** Of rates: executors tell theirs each second, and the page is read each second, which is not the same one. */
    private static final double WINDOW_S = 5;
    private static final String LABEL = " (a real run, drawn by make metrics-plots)";
    private static final Pattern VALUE = Pattern.compile(
        "(?m)^metrics_\\w*_driver_plugin_org_ferrowal_spark_FerrowalPlugin_receivers_(\\w+)_Value\\{[^}]*} (-?[0-9.E+-]+)$");

    /** The metrics that are kept, by their names in the page, after the time. */
    private static final List<String> KEPT = List.of("records", "bytes", "groups", "marks", "failed", "retries",
        "barrier_busy_micros", "barrier_busy_percent", "barrier_micros_p50", "barrier_micros_p99", "queue_wait_micros_p99",
        "segments_live", "segments_spare", "cleaned_segments", "memory_held", "memory_used", "memory_limit");

    @Override
    public Integer call() throws Exception {
        if (seconds < 60) {
            throw new BenchException("--seconds " + seconds + " is too short: a minute at least");
        }
        Path file = csv;
        if (file == null) {
            file = space.home().resolve("metrics.csv");
            Files.createDirectories(file.toAbsolutePath().getParent());
            measure(file);
            space.publish(file);
        }
        List<double[]> rows = read(file);
        Charts charts = new Charts(space.home().resolve("charts"), Contenders.ids());
        draw(charts, rows, spans(rows.get(rows.size() - 1)[0]));
        System.out.println("Each second: " + Workspace.shown(file) + ". Charts: "
            + Workspace.shown(space.home().resolve("charts")) + "/metrics-*.svg.");
        return 0;
    }

    /** When what happens happens, in a run of so many seconds. */
    private static List<Charts.Span> spans(double seconds) {
        double unit = Math.floor(seconds / 9);
        return List.of(new Charts.Span("burst", 2 * unit, 3 * unit), new Charts.Span("a neighbour writes", 6 * unit, 7 * unit));
    }

    // ---- the run -----------------------------------------------------------------------------------------------

    private void measure(Path file) throws Exception {
        Path work = space.work();
        space.describe();
        WorkFiles.needSpace(work, 24L << 30);
        System.out.printf(Locale.ROOT, "%d receivers, each a block of %d records of 1 KiB every %d ms; batches of 1 s; %d s.%n",
            receivers, block, pause, seconds);
        Path directory = Files.createDirectory(work.resolve("app"));
        Path hurry = directory.resolve("hurry");
        int port = freePort();
        Process app = new ProcessBuilder(command(directory, hurry, port)).redirectError(directory.resolve("log").toFile())
            .start();
        try {
            awaitStart(app, directory.resolve("log"));
            HttpClient client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();
            URI page = URI.create("http://localhost:" + port + "/metrics/prometheus/");
            awaitRecords(client, page);
            watch(client, page, file, hurry, directory.resolve("neighbour"));
        } finally {
            app.destroyForcibly().waitFor();
            WorkFiles.delete(directory);
        }
    }

    private List<String> command(Path directory, Path hurry, int port) throws IOException {
        Map<String, String> conf = new LinkedHashMap<>();
        conf.put("spark.master", "local[" + (receivers + 3) + "]");
        conf.put("spark.app.name", "metrics");
        conf.put("spark.driver.host", "localhost");
        conf.put("spark.local.dir", Files.createDirectory(directory.resolve("scratch")).toString());
        conf.put("spark.ui.port", Integer.toString(port));
        conf.put("spark.plugins", "org.ferrowal.spark.FerrowalPlugin");
        conf.put("spark.metrics.conf.*.sink.prometheusServlet.class", "org.apache.spark.metrics.sink.PrometheusServlet");
        conf.put("spark.metrics.conf.*.sink.prometheusServlet.path", "/metrics/prometheus");
        conf.put("spark.streaming.receiver.writeAheadLog.enable", "true");
        conf.put("spark.streaming.receiver.writeAheadLog.class", "org.ferrowal.spark.ReceiverWriteAheadLog");
        conf.put("spark.streaming.driver.writeAheadLog.class", "org.ferrowal.spark.DriverWriteAheadLog");
        conf.put("spark.ferrowal.dir", directory.resolve("wal").toUri().toString());
        conf.put("spark.ferrowal.metrics.interval", "1s");
        List<String> line = Child.java();
        // After the flags that it inherits, and before the class path.
        List<String> flags = new ArrayList<>(List.of("-Xmx4g"));
        conf.forEach((key, value) -> flags.add("-D" + key + "=" + value));
        line.addAll(line.size() - 2, flags);
        line.addAll(List.of(MetricsApp.class.getName(), directory.resolve("checkpoint").toUri().toString(),
            Integer.toString(receivers), Integer.toString(RECORD), Integer.toString(block), Long.toString(pause),
            hurry.toString()));
        return line;
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    private static void awaitStart(Process app, Path log) throws Exception {
        CountDownLatch started = new CountDownLatch(1);
        AtomicBoolean said = new AtomicBoolean();
        Thread reader = new Thread(() -> {
            try (BufferedReader lines = app.inputReader()) {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    if (line.equals("started")) {
                        said.set(true);
                        started.countDown();
                    }
                }
            } catch (IOException e) {
                // Its end: what it said is looked at below.
            }
            started.countDown();
        }, "bench-app");
        reader.setDaemon(true);
        reader.start();
        if (!started.await(BOUND_S, TimeUnit.SECONDS) || !said.get()) {
            String why = Files.readString(log);
            throw new BenchException("the application did not start: " + why.substring(Math.max(why.length() - 2000, 0)));
        }
    }

    private static Map<String, Double> scrape(HttpClient client, URI page) throws IOException, InterruptedException {
        HttpResponse<String> answer = client.send(HttpRequest.newBuilder(page)
            .timeout(Duration.ofSeconds(10)).build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new BenchException("the application's page for Prometheus answers with " + answer.statusCode());
        }
        Map<String, Double> values = new LinkedHashMap<>();
        Matcher value = VALUE.matcher(answer.body());
        while (value.find()) {
            values.put(value.group(1), Double.valueOf(value.group(2)));
        }
        if (!values.keySet().containsAll(KEPT)) {
            throw new BenchException("the page has no longer all metrics that are drawn; it has " + values.keySet());
        }
        return values;
    }

    /** Until receivers write: what Spark does before that is not of interest. */
    private static void awaitRecords(HttpClient client, URI page) throws IOException, InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(BOUND_S);
        while (scrape(client, page).get("records") == 0) {
            if (System.nanoTime() > until) {
                throw new BenchException("the receivers wrote nothing within " + BOUND_S + " s");
            }
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(200));
        }
    }

    private void watch(HttpClient client, URI page, Path file, Path hurry, Path neighbour) throws Exception {
        List<Charts.Span> spans = spans(seconds);
        List<String> lines = new ArrayList<>(List.of("seconds," + String.join(",", KEPT)));
        AtomicBoolean over = new AtomicBoolean();
        AtomicReference<Exception> failed = new AtomicReference<>();
        Thread writer = null;
        long begin = System.nanoTime();
        try {
            for (int second = 0; second <= seconds; second++) {
                for (long left = left(begin, second); left > 0; left = left(begin, second)) {
                    LockSupport.parkNanos(left);
                }
                Map<String, Double> values = scrape(client, page);
                StringBuilder line = new StringBuilder(String.format(Locale.ROOT, "%.2f", (System.nanoTime() - begin) / 1e9));
                KEPT.forEach(name -> line.append(',').append(Math.round(values.get(name))));
                lines.add(line.toString());
                Files.write(file, lines); // Each second: what was measured stays, whatever comes.
                Workspace.progress("metrics, second " + second + " of " + seconds);
                if (second == spans.get(0).from()) {
                    Files.createFile(hurry);
                } else if (second == spans.get(0).to()) {
                    Files.delete(hurry);
                } else if (second == spans.get(1).from()) {
                    writer = new Thread(() -> {
                        try {
                            writeMuch(neighbour, over);
                        } catch (IOException e) {
                            failed.set(e);
                        }
                    }, "bench-neighbour");
                    writer.start();
                } else if (second == spans.get(1).to()) {
                    over.set(true);
                }
            }
        } finally {
            over.set(true);
            if (writer != null) {
                writer.join();
            }
            Workspace.progress("");
        }
        if (failed.get() != null) {
            throw failed.get();
        }
    }

    private static long left(long begin, int second) {
        return begin + TimeUnit.SECONDS.toNanos(second) - System.nanoTime();
    }

    /** What a neighbour does that copies files, and syncs them. */
    private static void writeMuch(Path file, AtomicBoolean over) throws IOException {
        ByteBuffer piece = ByteBuffer.allocateDirect(8 << 20);
        piece.put(Payload.of(piece.capacity(), 0)).flip();
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            for (long written = 0; !over.get(); written += piece.capacity()) {
                // The same gigabyte over and over: the disk need not be large.
                channel.write(piece.rewind(), written % (1L << 30));
                if (written % (64 << 20) == 0) {
                    channel.force(false);
                }
            }
        }
    }

    // ---- the charts --------------------------------------------------------------------------------------------

    private static List<double[]> read(Path file) throws IOException {
        List<String> lines = Files.readAllLines(file);
        if (lines.size() < 3 || !lines.get(0).equals("seconds," + String.join(",", KEPT))) {
            throw new BenchException(file + " is no file of this command: its first line is another");
        }
        List<double[]> rows = new ArrayList<>();
        for (String line : lines.subList(1, lines.size())) {
            String[] fields = line.split(",");
            double[] row = new double[fields.length];
            for (int i = 0; i < row.length; i++) {
                row[i] = Double.parseDouble(fields[i]);
            }
            rows.add(row);
        }
        return rows;
    }

    private static double get(double[] row, String name) {
        return row[1 + KEPT.indexOf(name)];
    }

    /** A metric as it was each second. */
    private static List<double[]> gauge(List<double[]> rows, String name, double unit) {
        return rows.stream().map(row -> new double[] {row[0], get(row, name) / unit}).toList();
    }

    /** By how much something grew over the last seconds, for each unit by which another thing did; none where that did not. */
    private static List<double[]> rate(List<double[]> rows, ToDoubleFunction<double[]> what, ToDoubleFunction<double[]> each) {
        List<double[]> points = new ArrayList<>();
        int from = 0;
        for (double[] row : rows) {
            while (row[0] - rows.get(from)[0] > WINDOW_S) {
                from++;
            }
            double[] first = rows.get(from);
            double over = each.applyAsDouble(row) - each.applyAsDouble(first);
            if (row[0] >= WINDOW_S - 1 && over > 0) {
                points.add(new double[] {row[0], (what.applyAsDouble(row) - what.applyAsDouble(first)) / over});
            }
        }
        return points;
    }

    private void draw(Charts charts, List<double[]> rows, List<Charts.Span> spans) throws IOException {
        ToDoubleFunction<double[]> time = row -> row[0];
        // Marks are groups without records.
        ToDoubleFunction<double[]> groups = row -> get(row, "groups") - get(row, "marks");
        space.publish(charts.overTime("metrics-rate", "Written" + LABEL, "records a second", false, spans,
            Map.of("records", rate(rows, row -> get(row, "records"), time))));
        space.publish(charts.overTime("metrics-groups", "Groups" + LABEL, "records in a group", false, spans,
            Map.of("records", rate(rows, row -> get(row, "records"), groups))));
        Map<String, List<double[]>> lines = new LinkedHashMap<>();
        lines.put("barrier.micros.p50", gauge(rows, "barrier_micros_p50", 1));
        lines.put("barrier.micros.p99", gauge(rows, "barrier_micros_p99", 1));
        lines.put("barrier.busy.micros a group", rate(rows, row -> get(row, "barrier_busy_micros"), groups));
        space.publish(charts.overTime("metrics-barrier", "The barrier" + LABEL, "microseconds", true, spans, lines));
        space.publish(charts.overTime("metrics-busy", "At the barrier" + LABEL, "percent of the time", false, spans,
            Map.of("percent", rate(rows, row -> get(row, "barrier_busy_micros") / 1e4, time))));
        lines = new LinkedHashMap<>();
        lines.put("segments.live", gauge(rows, "segments_live", 1));
        lines.put("segments.spare", gauge(rows, "segments_spare", 1));
        space.publish(charts.overTime("metrics-segments", "Segments" + LABEL, "files", false, spans, lines));
        lines = new LinkedHashMap<>();
        lines.put("memory.held", gauge(rows, "memory_held", MIB));
        lines.put("memory.used", gauge(rows, "memory_used", MIB));
        lines.put("memory.limit", gauge(rows, "memory_limit", MIB));
        space.publish(charts.overTime("metrics-memory", "Native memory" + LABEL, "MiB", false, spans, lines));
    }
}
