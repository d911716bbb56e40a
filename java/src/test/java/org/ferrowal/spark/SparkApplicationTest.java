package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.ferrowal.Child;
import org.junit.jupiter.api.Test;

/** A real Spark Streaming application, by spark-submit, killed with -9. */
class SparkApplicationTest extends SparkApplications {
    private void killAndRecover(String master, Map<String, String> confs, int kills, int receivers) throws IOException {
        String[] arguments = {Integer.toString(receivers), "500", "5", "20000", "20"};
        for (int kill = 0; kill < kills; kill++) {
            try (Child app = submit(master, confs, arguments)) {
                app.await(line -> line.equals("started"), BOUND);
                int before = acknowledged().size();
                int batches = 2 + random.nextInt(4);
                // Those before the receivers have begun are empty, and more where executors are slow to come.
                for (int i = 0; i < batches; i++) {
                    app.await(line -> line.startsWith("batch ") && !line.endsWith(" 0"), BOUND);
                }
                app.await(line -> line.startsWith("batch ") && hasGrown(before), BOUND);
                app.kill();
            }
        }
        try (Child app = submit(master, confs, arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            finish(app, 0);
            app.kill();
        }
        assertEachInOneBatch();
    }

    @Test
    void fourKillsLoseNothingAndRepeatNoBlock() throws IOException {
        killAndRecover("local[6]", Map.of(), 4, 2);
    }

    @Test
    void aKillWithoutDriverBatching() throws IOException {
        killAndRecover("local[6]", Map.of("spark.streaming.driver.writeAheadLog.allowBatching", "false"), 1, 2);
    }

    @Test
    void aKillWithTwoClassLoadersInOneJvm() throws IOException {
        killAndRecover("local[6]", Map.of("spark.executor.userClassPathFirst", "true"), 1, 2);
    }

    @Test
    void aKillOfALocalCluster() throws IOException {
        killAndRecover("local-cluster[2,2,1024]", Map.of(), 1, 2);
        keepExecutorOutput();
    }

    @Test
    void theLossOfExecutorsLosesNothing() throws IOException {
        // Long batches: much of what is acknowledged lies in the memory of one executor, and in the log.
        String[] arguments = {"2", "3000", "5", "20000", "20"};
        try (Child app = submit("local-cluster[2,2,1024]", Map.of(), arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            for (int kill = 0; kill < 2; kill++) {
                app.await(line -> line.startsWith("batch "), BOUND);
                app.await(line -> line.startsWith("batch "), BOUND);
                int before = acknowledged().size();
                killAnExecutor(app);
                app.await(line -> line.startsWith("batch ") && hasGrown(before), BOUND);
            }
            finish(app, 0);
            app.kill();
        }
        // Blocks of the executors that went were read by handle on others: only an executor says this, and only then.
        String executors = Files.readString(Path.of(System.getProperty("ferrowal.test.work"),
            "executors-" + temp.getFileName() + ".log"));
        assertTrue(executors.contains("from write ahead log, record handle"), "no block was read by handle; seed " + seed);
        keepExecutorOutput();
    }

    @Test
    void aDamagedBlockCostsItselfAndNotTheApplication() throws IOException {
        assumeTrue(store().length == 0, "looks into the files");
        // The batches are long: what is received before the kill is in no batch yet, and is read from the log.
        String[] arguments = {"1", "8000", "1", "3000", "50"};
        try (Child app = submit("local[4]", Map.of(), arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            app.await(line -> line.startsWith("batch "), BOUND);
            for (int i = 0; i < 20; i++) {
                app.await(line -> line.startsWith("acknowledged "), BOUND);
            }
            app.kill();
        }
        Set<String> pending = acknowledged();
        pending.removeAll(processed().keySet());
        String victim = new TreeSet<>(pending).first();
        WriteAheadLogTest.damage(temp.resolve("log").resolve("receivers"), victim);
        // The configuration is frozen in the checkpoint: this is how an operator changes a policy.
        Files.writeString(temp.resolve("log").resolve("ferrowal.properties"), "spark.ferrowal.recovery=salvage\n");
        try (Child app = submit("local[4]", Map.of(), arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            finish(app, 1);
            app.kill();
        }
        Set<String> missing = acknowledged();
        missing.removeAll(processed().keySet());
        assertEquals(Set.of(victim), missing);
        assertEachInOneBatch();
    }

    @Test
    void diskUseStaysBoundedOverAMinuteOfBatches() throws IOException {
        assumeTrue(store().length == 0, "no object goes before it is ten minutes old");
        // About 10 MB a second.
        String[] arguments = {"2", "1000", "10", "50000", "100"};
        Map<String, String> confs = Map.of("spark.ferrowal.segment.size", "8m", "spark.ferrowal.clean.grace", "5s");
        long most = 0;
        try (Child app = submit("local[6]", confs, arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            for (int batch = 0; batch < 60; batch++) {
                app.await(line -> line.startsWith("batch "), BOUND);
                most = Math.max(most, size(temp.resolve("log")));
            }
            finish(app, 0);
            app.kill();
        }
        long written = acknowledged().size() * 50_000L;
        System.out.println("disk use: at most " + (most >> 20) + " MiB of " + (written >> 20) + " MiB written");
        assertTrue(written > 200L << 20, "only " + written + " bytes were written");
        assertTrue(most < written / 2 && most < 400L << 20, most + " bytes lay on the disk, of " + written);
    }

    /** Bytes on the disk below a directory; files may go while they are counted. */
    private static long size(Path dir) throws IOException {
        try (Stream<Path> files = Files.walk(dir)) {
            return files.mapToLong(file -> file.toFile().isFile() ? file.toFile().length() : 0).sum();
        } catch (java.io.UncheckedIOException e) {
            return 0;
        }
    }
}
