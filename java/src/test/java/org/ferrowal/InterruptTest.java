package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What Spark's batching wrapper does when it closes: it interrupts the thread that is inside a write. */
@Timeout(120)
class InterruptTest {
    @TempDir
    private Path temp;

    private static ByteBuffer record(int number) {
        byte[] bytes = new byte[1000 + number % 50_000];
        new Random(number).nextBytes(bytes);
        return ByteBuffer.wrap(bytes);
    }

    @Test
    void anInterruptNeitherTearsARecordNorPoisonsTheLog() throws Exception {
        for (LogOptions.Role role : LogOptions.Role.values()) {
            LogOptions options = LogOptions.in(temp.resolve(role.name()), role).linger(Duration.ZERO);
            List<RecordLocation> locations = new ArrayList<>();
            AtomicInteger seen = new AtomicInteger();
            AtomicInteger written = new AtomicInteger();
            AtomicReference<Throwable> failure = new AtomicReference<>();
            try (Log log = Log.open(options)) {
                Thread writer = new Thread(() -> {
                    try {
                        for (int i = 0; i < 100_000 && (i < 300 || seen.get() < 100); i++) {
                            locations.add(log.append(record(i), i));
                            written.incrementAndGet();
                            // It came before or during the write, which does not take it away.
                            if (Thread.interrupted()) {
                                seen.incrementAndGet();
                            }
                        }
                    } catch (Throwable e) {
                        failure.set(e);
                    }
                });
                writer.start();
                while (writer.isAlive()) {
                    writer.interrupt();
                    Thread.onSpinWait();
                }
                writer.join();
                assertNull(failure.get(), () -> "the write failed: " + failure.get());
                assertTrue(seen.get() >= 100, () -> seen + " interrupts were seen");
                RecordLocation after = log.append(record(7), 200_000);
                assertEquals(record(7), log.read(after));
                for (int i = 0; i < locations.size(); i++) {
                    assertEquals(record(i), log.read(locations.get(i)));
                }
            }
            try (Log log = Log.open(options); Records records = log.scan()) {
                for (int i = 0; i < written.get(); i++) {
                    assertEquals(record(i), records.next());
                }
                assertEquals(record(7), records.next());
                assertFalse(records.hasNext());
            }
        }
    }
}
