package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Random;
import org.ferrowal.Log;
import org.ferrowal.LogException;
import org.ferrowal.LogOptions;
import org.ferrowal.RecordLocation;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Handles of any bytes: a location that could be, or an exception; and no location reads what is not its record. */
class HostileHandleTest {
    private static final long[] EXTREMES = {Long.MIN_VALUE, Long.MIN_VALUE + 1, -8, -1, 0, 1, 2, 7, 8, 4096,
        Integer.MAX_VALUE, 1L << 31, 1L << 32, Long.MAX_VALUE - 7, Long.MAX_VALUE};

    @TempDir
    private Path temp;

    private static byte[] serialize(Object object) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(object);
        }
        return bytes.toByteArray();
    }

    private static Object deserialize(byte[] bytes) throws IOException, ClassNotFoundException {
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes))) {
            // What a mutation can ask of the stream itself is bounded by its filter, as Spark's user would bound it.
            in.setObjectInputFilter(info -> info.arrayLength() > 1000
                ? java.io.ObjectInputFilter.Status.REJECTED : java.io.ObjectInputFilter.Status.UNDECIDED);
            return in.readObject();
        }
    }

    private static RecordLocation of(long[] f) {
        return new RecordLocation(f[0], f[1], f[2], f[3], f[4], f[5], (int) f[6], (int) f[7], (int) f[8]);
    }

    /** A location either is refused, or reads the record whose location it is, or throws what says why not. */
    private static void tryToRead(Log log, RecordLocation real, ByteBuffer record, RecordLocation location) {
        try {
            ByteBuffer read = log.read(location);
            // A version is what the reader must understand, not where the record is: every release reads a plain record with
            // a handle of each version that it knows.
            RecordLocation same = new RecordLocation(location.logHigh(), location.logLow(), location.writerHigh(),
                location.writerLow(), location.segment(), location.offset(), location.length(), location.crc(), real.version());
            assertEquals(real, same);
            assertTrue(record.equals(read), "another record");
        } catch (LogException | IllegalArgumentException expected) {
            assertTrue(expected.getMessage() != null && !expected.getMessage().isEmpty());
        }
    }

    @Test
    void everyFieldAtItsExtremes() {
        ByteBuffer record = ByteBuffer.wrap(new byte[100]);
        try (Log log = Log.open(LogOptions.in(temp.resolve("log"), LogOptions.Role.RECEIVERS).linger(Duration.ZERO))) {
            RecordLocation real = log.append(record, 1);
            long[] fields = {real.logHigh(), real.logLow(), real.writerHigh(), real.writerLow(), real.segment(),
                real.offset(), real.length(), real.crc(), real.version()};
            for (int one = 0; one < fields.length; one++) {
                for (int two = one; two < fields.length; two++) {
                    for (long a : EXTREMES) {
                        for (long b : EXTREMES) {
                            long[] wild = fields.clone();
                            wild[one] = a;
                            wild[two] = b;
                            RecordLocation location;
                            try {
                                location = of(wild);
                            } catch (IllegalArgumentException e) {
                                assertTrue(e.getMessage().startsWith("not a valid record handle: "), e.getMessage());
                                continue;
                            }
                            tryToRead(log, real, record, location);
                        }
                    }
                }
            }
        }
    }

    @Test
    void everyTruncationIsRefused() throws Exception {
        byte[] bytes = serialize(new FerrowalRecordHandle(new RecordLocation(1, 2, 3, 4, 5, 4096, 77, 6, 1)));
        for (int length = 0; length < bytes.length; length++) {
            byte[] cut = Arrays.copyOf(bytes, length);
            assertThrows(IOException.class, () -> deserialize(cut), () -> cut.length + " bytes");
        }
    }

    @Test
    void anotherClassIsNoHandle() throws Exception {
        byte[] bytes = serialize(new FerrowalRecordHandle(new RecordLocation(1, 2, 3, 4, 5, 4096, 77, 6, 1)));
        // The location's class, named in the stream, becomes one that is not there.
        byte[] name = "org.ferrowal.RecordLocation".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        boolean changed = false;
        for (int i = 0; i + name.length <= bytes.length; i++) {
            if (Arrays.equals(bytes, i, i + name.length, name, 0, name.length)) {
                bytes[i + name.length - 1] = 'm';
                changed = true;
            }
        }
        assertTrue(changed);
        assertThrows(ClassNotFoundException.class, () -> deserialize(bytes));
    }

    /** Seeded; a failure names the seed, and -Dferrowal.test.seed takes it. */
    @Test
    void anyBytesGiveAValidHandleOrAnException() throws Exception {
        long seed = Long.getLong("ferrowal.test.seed", System.nanoTime());
        Random random = new Random(seed);
        ByteBuffer record = ByteBuffer.wrap(new byte[100]);
        int taken = 0;
        int refused = 0;
        try (Log log = Log.open(LogOptions.in(temp.resolve("log"), LogOptions.Role.RECEIVERS).linger(Duration.ZERO))) {
            RecordLocation real = log.append(record, 1);
            byte[] whole = serialize(new FerrowalRecordHandle(real));
            for (int i = 0; i < 20_000; i++) {
                byte[] bytes = whole.clone();
                int changes = 1 + random.nextInt(3);
                for (int c = 0; c < changes; c++) {
                    // The fields are the last quarter of the stream.
                    int at = random.nextBoolean() ? random.nextInt(bytes.length)
                        : bytes.length - 1 - random.nextInt(68);
                    bytes[at] = random.nextBoolean() ? (byte) random.nextInt() : (byte) (bytes[at] ^ 1 << random.nextInt(8));
                }
                Object object;
                try {
                    object = deserialize(bytes);
                } catch (IOException | ClassNotFoundException | RuntimeException | LinkageError e) {
                    refused++;
                    continue;
                }
                if (object instanceof FerrowalRecordHandle handle) {
                    taken++;
                    tryToRead(log, real, record, handle.location());
                    handle.hashCode();
                    handle.toString();
                }
            }
        } catch (RuntimeException | Error e) {
            throw new AssertionError("seed " + seed, e);
        }
        assertTrue(taken > 1000 && refused > 1000, "seed " + seed + ": " + taken + " taken, " + refused + " refused");
    }
}
