package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.ferrowal.Child;
import org.ferrowal.Metrics;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The plugin's metrics in the Prometheus servlet of a real application, and the dashboard's names against them. */
class FerrowalPluginTest {
    private static final Duration BOUND = Duration.ofSeconds(120);
    private static final String PLUGIN = "_driver_plugin_org_ferrowal_spark_FerrowalPlugin_";
    private static final Pattern LINE = Pattern.compile("(metrics_[A-Za-z0-9_]+)(?:\\{[^}]*})? (-?[0-9.E+-]+)");

    @TempDir
    private Path temp;

    /** Every value of a page that Prometheus would read. */
    private static Map<String, Double> scrape(HttpClient client, int port) throws IOException, InterruptedException {
        HttpResponse<String> page = client.send(
            HttpRequest.newBuilder(URI.create("http://localhost:" + port + "/metrics/prometheus/")).build(),
            HttpResponse.BodyHandlers.ofString());
        assertEquals(200, page.statusCode(), page.body());
        Map<String, Double> values = new HashMap<>();
        Matcher line = LINE.matcher(page.body());
        while (line.find()) {
            values.put(line.group(1), Double.valueOf(line.group(2)));
        }
        return values;
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    private static String prefix(Map<String, Double> page) {
        for (String name : page.keySet()) {
            int at = name.indexOf(PLUGIN + "driver_records_Value");
            if (at > 0) {
                return name.substring(0, at) + PLUGIN;
            }
        }
        throw new AssertionError("no metrics of the plugin in " + new TreeSet<>(page.keySet()));
    }

    /** Runs the application until receivers and driver are seen to have written, and gives the page that shows it. */
    private Map<String, Double> pageOf(String master) throws IOException, InterruptedException {
        int port = freePort();
        Map<String, String> confs = Map.of(
            "spark.plugins", FerrowalPlugin.class.getName(),
            "spark.ui.enabled", "true",
            "spark.ui.port", Integer.toString(port),
            "spark.ferrowal.metrics.interval", "1s",
            "spark.metrics.conf.*.sink.prometheusServlet.class", "org.apache.spark.metrics.sink.PrometheusServlet",
            "spark.metrics.conf.*.sink.prometheusServlet.path", "/metrics/prometheus");
        try (Child app = Submission.of(temp, master, confs, "2", "500", "5", "20000", "20")) {
            app.await(line -> line.equals("started"), BOUND);
            HttpClient client = HttpClient.newHttpClient();
            long until = System.nanoTime() + BOUND.toNanos();
            while (true) {
                app.await(line -> line.startsWith("batch "), BOUND);
                Map<String, Double> page = scrape(client, port);
                String prefix = prefix(page);
                if (page.get(prefix + "receivers_records_Value") >= 20 && page.get(prefix + "driver_records_Value") >= 5
                    && page.get(prefix + "receivers_logs_open_Value") >= 1) {
                    app.kill();
                    return page;
                }
                assertTrue(System.nanoTime() < until, () -> "nothing was counted: " + page + "; " + app.output());
            }
        }
    }

    @Test
    void everyMetricAndAllOfTheDashboardsAreInThePrometheusServlet() throws IOException, InterruptedException {
        Map<String, Double> page = pageOf("local[4]");
        String prefix = prefix(page);
        for (Metrics.Metric metric : Metrics.all()) {
            for (String role : new String[] {"driver_", "receivers_"}) {
                String name = prefix + role + metric.name().replace('.', '_') + "_Value";
                assertTrue(page.containsKey(name), name + " is not in " + new TreeSet<>(page.keySet()));
            }
        }
        assertTrue(page.get(prefix + "receivers_bytes_Value") >= 20 * 20_000);
        assertTrue(page.get(prefix + "receivers_barrier_micros_p99_Value") > 0);
        assertTrue(page.get(prefix + "driver_barrier_micros_max_Value") > 0);
        assertEquals(1, page.get(prefix + "driver_logs_open_Value"));
        assertEquals(0, page.get(prefix + "driver_failed_Value"));

        String app = prefix.substring("metrics_".length(), prefix.length() - PLUGIN.length());
        Set<String> used = new TreeSet<>();
        JsonNode dashboard = new ObjectMapper().readTree(
            Files.readString(Path.of(System.getProperty("ferrowal.test.docs"), "grafana-dashboard.json")));
        Pattern name = Pattern.compile("metrics_\\$\\{app}_[A-Za-z0-9_]+");
        for (JsonNode panel : dashboard.get("panels")) {
            for (JsonNode target : panel.path("targets")) {
                Matcher names = name.matcher(target.get("expr").asText());
                assertTrue(names.find(), target + " names no metric");
                do {
                    used.add(names.group().replace("${app}", app));
                } while (names.find());
            }
        }
        assertTrue(used.size() >= 40, "only these are in the dashboard: " + used);
        used.removeAll(page.keySet());
        assertEquals(Set.of(), used, "in the dashboard, and not in the page");
    }

    @Test
    void executorsTellTheDriverWhatTheyCounted() throws IOException, InterruptedException {
        Map<String, Double> page = pageOf("local-cluster[2,2,1024]");
        String prefix = prefix(page);
        assertTrue(page.get(prefix + "receivers_barrier_micros_p50_Value") > 0);
        assertTrue(page.get(prefix + "receivers_memory_limit_Value") >= 64 << 20);
    }
}
