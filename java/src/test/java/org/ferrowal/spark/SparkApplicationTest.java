package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.ferrowal.Child;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A real Spark Streaming application, by spark-submit, killed with -9. */
class SparkApplicationTest {
    private static final Duration BOUND = Duration.ofSeconds(120);

    @TempDir
    private Path temp;

    private long seed;
    private Random random;

    @BeforeEach
    void seed() {
        seed = System.nanoTime();
        random = new Random(seed);
        System.out.println("seed of the next Spark application: " + seed);
    }

    private Child submit(String master, Map<String, String> confs, String... arguments) {
        return Submission.of(temp, master, confs, arguments);
    }

    private static String[] store() {
        return Submission.store();
    }

    private Set<String> acknowledged() throws IOException {
        Set<String> names = new HashSet<>();
        try (Stream<Path> files = Files.list(temp)) {
            for (Path file : files.filter(f -> f.getFileName().toString().startsWith("acknowledged-"))
                    .collect(Collectors.toList())) {
                names.addAll(complete(file));
            }
        }
        return names;
    }

    /** A file's lines, but for a last one that a kill has cut. */
    private static List<String> complete(Path file) throws IOException {
        if (!Files.exists(file)) {
            return List.of();
        }
        String text = Files.readString(file);
        return text.substring(0, text.lastIndexOf('\n') + 1).lines().collect(Collectors.toList());
    }

    /** Batches by record; fails on a record that was altered. */
    private Map<String, Set<String>> processed() throws IOException {
        Map<String, Set<String>> batches = new HashMap<>();
        for (String line : complete(temp.resolve("processed"))) {
            String[] words = line.split(" ");
            assertEquals("ok", words[2], line);
            batches.computeIfAbsent(words[1], name -> new TreeSet<>()).add(words[0]);
        }
        return batches;
    }

    /** Ends production and waits, batch by batch, until everything acknowledged but {@code lost} records is processed. */
    private void finish(Child app, int lost) throws IOException {
        Files.createFile(temp.resolve("quiet"));
        // Blocks may be acknowledged until each source has seen the file.
        long until = System.nanoTime() + BOUND.toNanos();
        Set<String> missing;
        do {
            app.await(line -> line.startsWith("batch "), BOUND);
            missing = acknowledged();
            missing.removeAll(processed().keySet());
        } while (missing.size() > lost && System.nanoTime() < until);
        assertEquals(lost, missing.size(), () -> "seed " + seed + "; " + app.output());
    }

    /** Each acknowledged record is in one batch only: recovery adds no allocated block to another batch. */
    private void assertEachInOneBatch() throws IOException {
        Set<String> acknowledged = acknowledged();
        processed().forEach((name, batches) -> {
            if (acknowledged.contains(name)) {
                assertEquals(1, batches.size(), () -> name + " is in the batches " + batches + "; seed " + seed);
            }
        });
    }

    private void killAndRecover(String master, Map<String, String> confs, int kills, int receivers) throws IOException {
        String[] arguments = {Integer.toString(receivers), "500", "5", "20000", "20"};
        for (int kill = 0; kill < kills; kill++) {
            try (Child app = submit(master, confs, arguments)) {
                app.await(line -> line.equals("started"), BOUND);
                int batches = 3 + random.nextInt(4);
                // Those before the receivers have begun are empty, and more where executors are slow to come.
                for (int i = 0; i < batches; i++) {
                    app.await(line -> line.startsWith("batch ") && !line.endsWith(" 0"), BOUND);
                }
                app.kill();
            }
        }
        try (Child app = submit(master, confs, arguments)) {
            app.await(line -> line.equals("started"), BOUND);
            finish(app, 0);
            app.kill();
        }
        assertTrue(acknowledged().size() >= kills * 20, "little was acknowledged: " + acknowledged().size());
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
        assertTrue(acknowledged().size() >= 100, "little was acknowledged: " + acknowledged().size());
        // Blocks of the executors that went were read by handle on others: only an executor says this, and only then.
        String executors = Files.readString(Path.of(System.getProperty("ferrowal.test.work"),
            "executors-" + temp.getFileName() + ".log"));
        assertTrue(executors.contains("from write ahead log, record handle"), "no block was read by handle; seed " + seed);
        keepExecutorOutput();
    }

    private boolean hasGrown(int before) {
        try {
            return acknowledged().size() > before + 20;
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Kills -9 one executor process of a local cluster, whose blocks then are in the log alone. */
    private void killAnExecutor(Child app) throws IOException {
        List<ProcessHandle> executors = new ArrayList<>();
        for (ProcessHandle process : ProcessHandle.of(app.pid()).orElseThrow().descendants().collect(Collectors.toList())) {
            Path commandLine = Path.of("/proc", Long.toString(process.pid()), "cmdline");
            if (Files.exists(commandLine) && Files.readString(commandLine).contains("CoarseGrainedExecutorBackend")) {
                executors.add(process);
            }
        }
        assertTrue(!executors.isEmpty(), "no executor is running");
        assertTrue(executors.get(random.nextInt(executors.size())).destroyForcibly());
    }

    /** Puts what the executors printed where the build searches for the JVM's warnings. */
    private void keepExecutorOutput() throws IOException {
        Path work = Path.of(System.getProperty("ferrowal.test.sparkHome"), "work");
        Path output = Path.of(System.getProperty("ferrowal.test.output"));
        int kept = 0;
        try (Stream<Path> files = Files.walk(work)) {
            for (Path file : files.filter(f -> f.getFileName().toString().equals("stdout")).collect(Collectors.toList())) {
                Files.copy(file, output.resolve("executor-" + kept++ + ".out"), StandardCopyOption.REPLACE_EXISTING);
            }
        }
        assertTrue(kept > 0, "no executor printed to " + work);
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
