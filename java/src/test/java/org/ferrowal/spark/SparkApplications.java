package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.ferrowal.Child;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;

/** Tests that start Spark applications ({@link App}) by spark-submit, kill them, and count what they keep. */
abstract class SparkApplications {
    static final Duration BOUND = Duration.ofSeconds(120);

    private static final AtomicInteger EXECUTORS = new AtomicInteger();

    @TempDir
    Path temp;

    long seed;
    Random random;

    @BeforeEach
    void seed() {
        seed = System.nanoTime();
        random = new Random(seed);
        System.out.println("seed of the next Spark application: " + seed);
    }

    /** Starts an application. The last one with this directory must have ended, by whatever death. */
    Child submit(String master, Map<String, String> confs, String... arguments) throws IOException {
        try (Stream<Path> files = Files.list(temp)) {
            for (Path file : files.filter(f -> f.getFileName().toString().matches("processed|acknowledged-.*"))
                    .collect(Collectors.toList())) {
                cutPartialLine(file);
            }
        }
        return Submission.of(temp, master, confs, arguments);
    }

    /** What a kill has cut: the next process begins with a line of its own. */
    private static void cutPartialLine(Path file) throws IOException {
        byte[] bytes = Files.readAllBytes(file);
        int end = bytes.length;
        while (end > 0 && bytes[end - 1] != '\n') {
            end--;
        }
        if (end < bytes.length) {
            Files.write(file, Arrays.copyOf(bytes, end));
        }
    }

    static String[] store() {
        return Submission.store();
    }

    Set<String> acknowledged() throws IOException {
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
    static List<String> complete(Path file) throws IOException {
        if (!Files.exists(file)) {
            return List.of();
        }
        String text = Files.readString(file);
        return text.substring(0, text.lastIndexOf('\n') + 1).lines().collect(Collectors.toList());
    }

    /** Batches by record; fails on a record that was altered. */
    Map<String, Set<String>> processed() throws IOException {
        Map<String, Set<String>> batches = new HashMap<>();
        for (String line : complete(temp.resolve("processed"))) {
            String[] words = line.split(" ");
            assertEquals("ok", words[2], line);
            batches.computeIfAbsent(words[1], name -> new TreeSet<>()).add(words[0]);
        }
        return batches;
    }

    /** Ends production and waits, batch by batch, until everything acknowledged but {@code lost} records is processed. */
    void finish(Child app, int lost) throws IOException {
        Files.createFile(temp.resolve("quiet"));
        // Blocks may be acknowledged until each source has seen the file.
        awaitProcessed(app, null, lost, System.currentTimeMillis());
    }

    /**
     * Waits until all of {@code names}, or, if that is null, all that is acknowledged, is processed, but for {@code lost} of
     * them. An application that is slow may be minutes of batches behind; it must go on, and what it has not processed by
     * its batches of two minutes after {@code since}, in milliseconds since 1970, it never will.
     */
    void awaitProcessed(Child app, Set<String> names, int lost, long since) throws IOException {
        while (true) {
            String line = app.await(batch -> batch.startsWith("batch "), BOUND);
            Set<String> missing = names == null ? acknowledged() : new HashSet<>(names);
            missing.removeAll(processed().keySet());
            if (missing.size() <= lost) {
                assertEquals(lost, missing.size(), () -> "seed " + seed + "; " + app.output());
                return;
            }
            long time = Long.parseLong(line.split(" ")[1]);
            assertTrue(time < since + BOUND.toMillis(), () -> "seed " + seed + ": " + missing.size() + " are missing, such as "
                + missing.iterator().next() + "; " + app.output());
        }
    }

    /** Each acknowledged record is in one batch only: recovery adds no allocated block to another batch. */
    void assertEachInOneBatch() throws IOException {
        Set<String> acknowledged = acknowledged();
        processed().forEach((name, batches) -> {
            if (acknowledged.contains(name)) {
                assertEquals(1, batches.size(), () -> name + " is in the batches " + batches + "; seed " + seed);
            }
        });
    }

    /** Whether more than a few records were acknowledged since there were so many. */
    boolean hasGrown(int before) {
        try {
            return acknowledged().size() > before + 20;
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Kills -9 one executor process of a local cluster, whose blocks then are in the log alone. */
    void killAnExecutor(Child app) throws IOException {
        List<ProcessHandle> executors = executors(app);
        assertTrue(!executors.isEmpty(), "no executor is running");
        assertTrue(executors.get(random.nextInt(executors.size())).destroyForcibly());
    }

    /** The executor processes of a local cluster. */
    static List<ProcessHandle> executors(Child app) throws IOException {
        List<ProcessHandle> executors = new ArrayList<>();
        for (ProcessHandle process : ProcessHandle.of(app.pid()).orElseThrow().descendants().collect(Collectors.toList())) {
            Path commandLine = Path.of("/proc", Long.toString(process.pid()), "cmdline");
            try {
                if (Files.readString(commandLine).contains("CoarseGrainedExecutorBackend")) {
                    executors.add(process);
                }
            } catch (IOException e) {
                assertTrue(!process.isAlive(), () -> "cannot read " + commandLine + ": " + e);
            }
        }
        return executors;
    }

    /**
     * Waits until no executor of any application runs. One that was being started while its driver was killed is nobody's
     * child, and writes to the application's directories until it finds that its driver is gone.
     */
    static void awaitNoExecutors() throws IOException {
        Path work = executorWork();
        List<ProcessHandle> left = new ArrayList<>();
        for (ProcessHandle process : ProcessHandle.allProcesses().collect(Collectors.toList())) {
            try {
                if (Files.readSymbolicLink(Path.of("/proc", Long.toString(process.pid()), "cwd")).startsWith(work)) {
                    left.add(process);
                }
            } catch (NoSuchFileException | AccessDeniedException e) {
                // It has ended meanwhile, or is not ours.
                continue;
            }
        }
        Child.awaitEnd(left, BOUND);
    }

    private static Path executorWork() throws IOException {
        return Path.of(System.getProperty("ferrowal.test.sparkHome")).toRealPath().resolve("work");
    }

    /** Puts what the executors printed where the build searches for the JVM's warnings. Their drivers are gone. */
    void keepExecutorOutput() throws IOException {
        awaitNoExecutors();
        Path work = executorWork();
        Path output = Path.of(System.getProperty("ferrowal.test.output"));
        List<Path> printed;
        try (Stream<Path> files = Files.walk(work)) {
            printed = files.filter(f -> f.getFileName().toString().equals("stdout")).collect(Collectors.toList());
        }
        assertTrue(!printed.isEmpty(), "no executor printed to " + work);
        for (Path file : printed) {
            Files.move(file, output.resolve("executor-" + EXECUTORS.incrementAndGet() + ".out"));
        }
        // Each executor has a copy of the jar in there.
        delete(work);
    }

    /** Removes a directory and all that is in it. */
    static void delete(Path dir) throws IOException {
        try (Stream<Path> files = Files.walk(dir)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).collect(Collectors.toList())) {
                Files.delete(file);
            }
        }
    }
}
