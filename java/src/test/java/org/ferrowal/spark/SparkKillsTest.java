package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.ferrowal.Child;
import org.junit.jupiter.api.Test;

/**
 * One Spark application on a local cluster, whose processes are killed with -9 again and again: all of them, the executor
 * with a receiver, the driver alone. Three times in a check, {@code make soak-processes LOOPS=200} otherwise.
 */
class SparkKillsTest extends SparkApplications {
    private static final int BLOCK = 4096;

    @Test
    void whateverIsKilledNothingAcknowledgedIsLost() throws IOException {
        assumeTrue(store().length == 0, "writes garbage into the files");
        int loops = Integer.getInteger("ferrowal.test.loops", 3);
        String[] arguments = {"2", "500", "5", "20000", "20"};
        int torn = 0;
        for (int loop = 0; loop <= loops; loop++) {
            Set<String> before = acknowledged();
            try (Child app = submit("local-cluster[2,2,1024]", Map.of(), arguments)) {
                app.await(line -> line.equals("started"), BOUND);
                // What earlier processes acknowledged.
                app.await(line -> line.startsWith("batch ") && areProcessed(before), BOUND);
                if (loop == loops) {
                    finish(app, 0);
                    app.kill();
                    break;
                }
                awaitGrowth(app);
                atAnyMoment();
                switch ((loop + (int) Math.floorMod(seed, 3L)) % 3) {
                    case 0 -> app.kill();
                    case 1 -> {
                        killTheReceiver(app);
                        awaitGrowth(app);
                        app.kill();
                    }
                    default -> {
                        List<ProcessHandle> executors = executors(app);
                        app.killAlone();
                        // They end by themselves, and may write until then.
                        awaitEnd(executors);
                    }
                }
            }
            torn += tearTails();
            System.out.println("kill " + (loop + 1) + " of " + loops + ": " + acknowledged().size()
                + " records acknowledged, " + torn + " tails torn");
        }
        assertTrue(torn > 0, "no tail was torn");
        assertEachInOneBatch();
        keepExecutorOutput();
    }

    private void awaitGrowth(Child app) throws IOException {
        int before = acknowledged().size();
        app.await(line -> line.startsWith("batch ") && hasGrown(before), BOUND);
    }

    private boolean areProcessed(Set<String> names) {
        try {
            return processed().keySet().containsAll(names);
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Otherwise every kill would follow the end of a batch. */
    private void atAnyMoment() {
        try {
            Thread.sleep(random.nextInt(700));
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private static void awaitEnd(List<ProcessHandle> processes) {
        CompletableFuture<?>[] ends = processes.stream().map(ProcessHandle::onExit).toArray(CompletableFuture[]::new);
        try {
            CompletableFuture.allOf(ends).get(BOUND.toSeconds(), TimeUnit.SECONDS);
        } catch (InterruptedException | ExecutionException | TimeoutException e) {
            processes.forEach(ProcessHandle::destroyForcibly);
            throw new AssertionError("executors outlive their driver", e);
        }
    }

    /** Kills -9 an executor that has a receiver's log open. */
    private void killTheReceiver(Child app) throws IOException {
        String receivers = temp.resolve("log").resolve("receivers").toRealPath().toString();
        List<ProcessHandle> open = new ArrayList<>();
        for (ProcessHandle executor : executors(app)) {
            try (Stream<Path> files = Files.list(Path.of("/proc", Long.toString(executor.pid()), "fd"))) {
                for (Path file : files.collect(Collectors.toList())) {
                    String name = Files.isSymbolicLink(file) ? Files.readSymbolicLink(file).toString() : "";
                    if (name.startsWith(receivers) && name.endsWith("LOCK")) {
                        open.add(executor);
                        break;
                    }
                }
            }
        }
        assertTrue(!open.isEmpty(), "no executor has a receiver's log open");
        assertTrue(open.get(random.nextInt(open.size())).destroyForcibly());
    }

    /** Leaves of every log's last write a part that was never acknowledged: nobody runs. Gives how many. */
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
            // A part of what is there, in another place.
            int from = BLOCK + random.nextInt(end - BLOCK);
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
