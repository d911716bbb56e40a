package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A process that only writes the log, killed with -9 at random moments, again and again on one directory. */
class CrashTest {
    private static final int CYCLES = 20;
    private static final Duration BOUND = Duration.ofSeconds(60);

    @TempDir
    private Path temp;

    @Test
    void everyAcknowledgedRecordIsBackAfterTwentyKills() {
        long seed = System.nanoTime();
        System.out.println("seed of everyAcknowledgedRecordIsBackAfterTwentyKills: " + seed);
        Random random = new Random(seed);
        Path dir = temp.resolve("log");
        Map<Integer, RecordLocation> acknowledged = new LinkedHashMap<>();
        int inFlight = 0;
        int next = 0;
        for (int cycle = 0; cycle < CYCLES; cycle++) {
            String last = "";
            try (Child child = Child.plain(Program.class, List.of(), "append", dir.toString(), Integer.toString(next))) {
                int until = next + random.nextInt(150);
                child.await(line -> line.startsWith("write " + until), BOUND);
                // Anywhere in what follows.
                for (long spin = random.nextInt(2_000_000); spin > 0; spin--) {
                    Thread.onSpinWait();
                }
                child.kill();
                for (String line : (Iterable<String>) child.output().lines()::iterator) {
                    String[] words = line.split(" ");
                    if (words[0].equals("acknowledged") && words.length == 11) {
                        acknowledged.put(Integer.valueOf(words[1]), location(words));
                    }
                    if (words[0].equals("write") || words[0].equals("acknowledged")) {
                        last = line;
                        next = Integer.parseInt(words[1]) + 1;
                    }
                }
            }
            if (last.startsWith("write")) {
                inFlight++;
            }
            verify(dir, acknowledged, "seed " + seed + ", cycle " + cycle);
        }
        System.out.println(acknowledged.size() + " records acknowledged; " + inFlight + " of " + CYCLES
            + " kills landed with a write in flight");
        assertTrue(inFlight >= CYCLES / 2, inFlight + " kills landed with a write in flight");
    }

    private static RecordLocation location(String[] words) {
        return new RecordLocation(Long.parseLong(words[2]), Long.parseLong(words[3]), Long.parseLong(words[4]),
            Long.parseLong(words[5]), Long.parseLong(words[6]), Long.parseLong(words[7]), Integer.parseInt(words[8]),
            Integer.parseInt(words[9]), Integer.parseInt(words[10]));
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    /** Each by its location, and all by a scan, in write order. What was in flight may be there, once, whole. */
    private static void verify(Path dir, Map<Integer, RecordLocation> acknowledged, String where) {
        try (Log log = Log.open(LogOptions.in(dir, LogOptions.Role.RECEIVERS).linger(Duration.ZERO))) {
            acknowledged.forEach((number, location) ->
                assertArrayEquals(Program.record(number), bytes(log.read(location)), () -> number + "; " + where));
            int found = 0;
            int previous = -1;
            try (Records records = log.scan()) {
                while (records.hasNext()) {
                    byte[] record = bytes(records.next());
                    int number = ByteBuffer.wrap(record).getInt();
                    assertArrayEquals(Program.record(number), record, () -> number + "; " + where);
                    int before = previous;
                    assertTrue(number > before, () -> number + " comes after " + before + "; " + where);
                    previous = number;
                    if (acknowledged.containsKey(number)) {
                        found++;
                    }
                }
            }
            assertEquals(acknowledged.size(), found, where);
        }
    }
}
