package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the native side counts, and what a log says of itself. */
class MetricsTest {
    @TempDir
    private Path temp;

    @Test
    void whatIsWrittenIsCounted() {
        Map<String, Long> before = Metrics.of(LogOptions.Role.DRIVER);
        try (Log log = Log.open(LogOptions.in(temp.resolve("log"), LogOptions.Role.DRIVER))) {
            for (int i = 0; i < 10; i++) {
                log.append(ByteBuffer.allocate(1000), i);
            }
            Map<String, Long> after = Metrics.of(LogOptions.Role.DRIVER);
            assertEquals(10, after.get("records") - before.get("records"));
            assertEquals(10_000, after.get("bytes") - before.get("bytes"));
            assertTrue(after.get("logs.open") >= 1);
            assertTrue(after.get("barrier.micros.max") > 0);
        }
    }

    @Test
    void everyMetricIsDescribed() {
        List<Metrics.Metric> all = Metrics.all();
        Set<String> names = new HashSet<>();
        for (Metrics.Metric metric : all) {
            assertTrue(names.add(metric.name()), () -> metric + " is there twice");
            assertTrue(!metric.unit().isEmpty() && metric.help().endsWith("."), metric::toString);
        }
        assertEquals(all.size(), Metrics.values(LogOptions.Role.RECEIVERS).length);
    }

    /** A log that was killed is opened again; the JDK's own logging prints what is said. */
    @Test
    void recoveryAndSummaryAreSaidThroughJavasLogging() {
        String dir = temp.resolve("log").toString();
        try (Child writer = Child.plain(Program.class, List.of(), "hold", dir)) {
            writer.await(line -> line.equals("holding"), Duration.ofSeconds(60));
            writer.kill();
        }
        try (Child again = Child.plain(Program.class, List.of(), "summary", dir)) {
            assertEquals(0, again.exit(Duration.ofSeconds(60)), again::output);
            List<String> lines = again.output().lines().collect(Collectors.toList());
            int at = 0;
            while (!lines.get(at).startsWith("INFO recovered " + dir)) {
                at++;
                assertTrue(at < lines.size(), again::output);
            }
            assertTrue(lines.get(at).matches(".* in [0-9.]+(s|ms|µs)"), lines.get(at));
            assertTrue(lines.get(at + 1).matches("  found: [1-9][0-9]* segments \\([0-9]+ sealed\\), 1 records of [0-9]+ bytes in all,"
                + " generation 1"), lines.get(at + 1));
            assertTrue(lines.get(at + 2).matches("  damage: 0 corrupt places; [0-9]+ torn bytes, never acknowledged; 0 void groups"),
                lines.get(at + 2));
            assertTrue(lines.get(at + 3).matches("  done: [1-9][0-9]* segments sealed, [0-9]+ removed, [0-9]+ copies put into"
                + " quarantine, 0 records of earlier generations set aside"), lines.get(at + 3));
            assertTrue(lines.stream().anyMatch(line -> line.startsWith("INFO ") && line.contains(" records, ")
                && line.contains("; queue wait p99 ")), again::output);
        }
    }
}
