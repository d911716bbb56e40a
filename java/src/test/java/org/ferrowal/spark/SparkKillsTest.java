package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.StandardWatchEventKinds;
import java.nio.file.WatchKey;
import java.nio.file.WatchService;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.ferrowal.Child;
import org.junit.jupiter.api.Test;

/**
 * One Spark application on a local cluster, whose processes are killed with -9 again and again: the executor with a
 * receiver, the driver alone, all of them. Each once in a check; {@code make soak-processes LOOPS=200} goes on for 200 lives
 * of the application.
 */
class SparkKillsTest extends SparkApplications {
    private static final int BLOCK = 4096;
    /**
     * Lives of one application. Spark adds its own options for the JVM to those in the checkpoint at each start, and no
     * executor begins after 66 of them: a JVM takes 1,000 {@code --add-opens}.
     */
    private static final int MOST_LIVES = 50;
    private static final String[] ARGUMENTS = {"2", "500", "5", "20000", "20"};

    @Test
    void whateverIsKilledNothingAcknowledgedIsLost() throws IOException, InterruptedException {
        assumeTrue(store().length == 0, "writes garbage into the files");
        int lives = Integer.getInteger("ferrowal.test.loops", 2);
        for (int done = 0; done < lives; done += MOST_LIVES) {
            if (done > 0) {
                clear();
            }
            killAndStart(Math.min(MOST_LIVES, lives - done), (done > 0 ? "after " + done + " lives of others, " : "") + "life ");
        }
    }

    /** One application, from nothing, with this many lives that end by a kill and one that ends by itself. */
    private void killAndStart(int lives, String name) throws IOException, InterruptedException {
        int first = random.nextInt(2);
        Map<String, String> confs = Map.of("spark.local.dir", temp.resolve("local").toString());
        int kills = 0;
        int torn = 0;
        for (int life = 0; life <= lives; life++) {
            Set<String> before = acknowledged();
            try (Child app = submit("local-cluster[2,2,1024]", confs, ARGUMENTS)) {
                long submitted = System.currentTimeMillis();
                app.await(line -> line.equals("started"), BOUND);
                // All that earlier processes acknowledged, before anything of these.
                awaitProcessed(app, before, 0, submitted);
                assertEachInOneBatch();
                if (life == lives) {
                    finish(app, 0);
                    app.kill();
                    awaitNoExecutors();
                } else {
                    boolean receiver = life == 0 || random.nextBoolean();
                    boolean alone = (first + life) % 2 == 0;
                    String what = name + (life + 1) + " of " + lives + ": " + (receiver ? "an executor, then " : "")
                        + (alone ? "the driver" : "all");
                    try {
                        kill(app, receiver, alone);
                    } catch (AssertionError e) {
                        throw new AssertionError("seed " + seed + ", " + what + "; " + app.output(), e);
                    }
                    kills += receiver ? 2 : 1;
                    torn += tearTails();
                    System.out.println("killed in " + what + "; " + acknowledged().size() + " records acknowledged, "
                        + kills + " kills, garbage behind " + torn + " tails");
                }
            }
            keepExecutorOutput();
            delete(temp.resolve("local"));
        }
        assertTrue(torn >= lives, "in " + lives + " lives only " + torn + " logs were left open");
        assertEachInOneBatch();
    }

    /** Nothing of the application that ended is left. */
    private void clear() throws IOException {
        try (Stream<Path> files = Files.list(temp)) {
            for (Path file : files.collect(Collectors.toList())) {
                delete(file);
            }
        }
    }

    /**
     * Kills -9, at no certain point of a batch. When it returns nothing of the application runs.
     *
     * @param receiver whether first an executor with a receiver, without which the application goes on
     * @param alone whether then the driver alone, and not all at once
     */
    private void kill(Child app, boolean receiver, boolean alone) throws IOException, InterruptedException {
        awaitAcknowledged(20 + random.nextInt(100));
        if (receiver) {
            killTheReceiver(executors(app));
            awaitAcknowledged(20 + random.nextInt(100));
        }
        if (alone) {
            app.killAlone();
            // They end by themselves, and may write until then.
            awaitNoExecutors();
        } else {
            app.kill();
            awaitNoExecutors();
        }
    }

    /** Waits until receivers have noted some more records. */
    private void awaitAcknowledged(int more) throws IOException, InterruptedException {
        long until = System.nanoTime() + BOUND.toNanos();
        int enough = acknowledged().size() + more;
        try (WatchService watch = temp.getFileSystem().newWatchService()) {
            temp.register(watch, StandardWatchEventKinds.ENTRY_CREATE, StandardWatchEventKinds.ENTRY_MODIFY);
            // Looked at after the registration: no change is missed.
            while (acknowledged().size() < enough) {
                WatchKey changed = watch.poll(until - System.nanoTime(), TimeUnit.NANOSECONDS);
                assertTrue(changed != null, "fewer than " + more + " records were acknowledged within " + BOUND);
                changed.pollEvents();
                changed.reset();
            }
        }
    }

    /** Kills -9 an executor that has a receiver's log open. */
    private void killTheReceiver(List<ProcessHandle> executors) throws IOException {
        Path receivers = temp.resolve("log").resolve("receivers").toRealPath();
        List<ProcessHandle> open = new ArrayList<>();
        for (ProcessHandle executor : executors) {
            boolean claims = false;
            try (Stream<Path> files = Files.list(Path.of("/proc", Long.toString(executor.pid()), "fd"))) {
                for (Path file : files.collect(Collectors.toList())) {
                    Path target = target(file);
                    claims |= target.startsWith(receivers) && target.endsWith("LOCK");
                }
            } catch (NoSuchFileException | UncheckedIOException e) {
                assertTrue(!executor.isAlive(), () -> "cannot list the files of " + executor.info());
            }
            if (claims) {
                open.add(executor);
            }
        }
        assertTrue(!open.isEmpty(), "no executor has a receiver's log open");
        assertTrue(open.get(random.nextInt(open.size())).destroyForcibly());
    }

    /** What a link in /proc leads to; a running process may have closed it. */
    private static Path target(Path link) throws IOException {
        try {
            return Files.readSymbolicLink(link);
        } catch (NoSuchFileException e) {
            return link;
        }
    }

    /** Appends what was never acknowledged to each log that was not closed: nobody runs. Gives to how many. */
    private int tearTails() throws IOException {
        List<Path> logs = new ArrayList<>();
        logs.add(temp.resolve("log").resolve("driver"));
        try (Stream<Path> writers = Files.list(temp.resolve("log").resolve("receivers"))) {
            writers.filter(Files::isDirectory).forEach(logs::add);
        }
        int torn = 0;
        for (Path log : logs) {
            List<Path> segments;
            try (Stream<Path> files = Files.list(log)) {
                segments = files.filter(f -> f.getFileName().toString().endsWith(".seg")).sorted()
                    .collect(Collectors.toList());
            }
            for (int i = segments.size() - 1; i >= 0; i--) {
                byte[] bytes = Files.readAllBytes(segments.get(i));
                int end = bytes.length;
                while (end > 0 && bytes[end - 1] == 0) {
                    end--;
                }
                end = (end + BLOCK - 1) / BLOCK * BLOCK;
                // Nothing but a header: it was made ahead of need. Full to the end: it is sealed.
                if (end > BLOCK) {
                    if (end < bytes.length) {
                        tear(segments.get(i), bytes, end);
                        torn++;
                    }
                    break;
                }
            }
        }
        return torn;
    }

    private void tear(Path segment, byte[] bytes, int end) throws IOException {
        byte[] garbage = new byte[1 + random.nextInt(Math.min(20_000, bytes.length - end))];
        if (random.nextBoolean()) {
            random.nextBytes(garbage);
        } else {
            // A part of what is there, in another place: a group that checks, but not here.
            int from = BLOCK + random.nextInt((end - BLOCK) / BLOCK) * BLOCK;
            System.arraycopy(bytes, from, garbage, 0, Math.min(garbage.length, end - from));
        }
        try (FileChannel file = FileChannel.open(segment, StandardOpenOption.WRITE)) {
            file.write(ByteBuffer.wrap(garbage), end);
            if (random.nextInt(4) == 0) {
                file.write(ByteBuffer.wrap(garbage), bytes.length);
            }
        }
    }
}
