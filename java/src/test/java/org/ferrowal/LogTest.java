package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

class LogTest {
    @TempDir
    private Path temp;

    private LogOptions options() {
        return LogOptions.in(temp.resolve("log"), LogOptions.Role.RECEIVERS).linger(Duration.ZERO);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static byte[] random(long seed, int length) {
        byte[] bytes = new byte[length];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    private static ByteBuffer direct(byte[] bytes) {
        return ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
    }

    @Test
    void everyKindOfBufferComesBack() {
        byte[] whole = random(1, 300_000);
        try (Log log = Log.open(options())) {
            for (int length : new int[] {0, 1, 7, 4096, 65_535, 65_536, 200_000}) {
                int end = 40 + length;
                ByteBuffer heap = ByteBuffer.wrap(whole).position(40).limit(end);
                ByteBuffer direct = direct(whole).position(40).limit(end);
                List<ByteBuffer> kinds = List.of(heap, heap.asReadOnlyBuffer(), heap.slice(), heap.slice().asReadOnlyBuffer(),
                    ByteBuffer.wrap(whole, 40, length), direct, direct.asReadOnlyBuffer(), direct.slice());
                for (ByteBuffer kind : kinds) {
                    int position = kind.position();
                    int limit = kind.limit();
                    byte[] expected = bytes(kind);
                    RecordLocation location = log.append(kind, 1);
                    assertEquals(position, kind.position());
                    assertEquals(limit, kind.limit());
                    assertEquals(length, location.length());
                    ByteBuffer read = log.read(location);
                    assertEquals(0, read.position());
                    assertEquals(length, read.limit());
                    assertArrayEquals(expected, bytes(read), () -> length + " bytes of " + kind);
                }
            }
        }
    }

    @Test
    void aRecordOfAHundredMegabytes() {
        byte[] large = random(2, 100 << 20);
        try (Log log = Log.open(options())) {
            RecordLocation location = log.append(ByteBuffer.wrap(large), 1);
            RecordLocation after = log.append(ByteBuffer.wrap(new byte[] {1}), 2);
            assertEquals(ByteBuffer.wrap(large), log.read(location));
            assertEquals(ByteBuffer.wrap(new byte[] {1}), log.read(after));
            try (Records records = log.scan()) {
                assertEquals(ByteBuffer.wrap(large), records.next());
                assertEquals(1, records.next().remaining());
                assertFalse(records.hasNext());
            }
        }
    }

    @Test
    void aBufferOutlivesItsLog() {
        byte[] small = random(3, 100);
        byte[] large = random(4, 200_000);
        List<ByteBuffer> read = new ArrayList<>();
        List<ByteBuffer> slices = new ArrayList<>();
        try (Log log = Log.open(options())) {
            for (byte[] record : List.of(small, large)) {
                RecordLocation location = log.append(ByteBuffer.wrap(record), 1);
                read.add(log.read(location));
                // Of this one only a view of a view is kept.
                slices.add(log.read(location).duplicate().position(50).slice().asReadOnlyBuffer());
            }
        }
        System.gc();
        assertEquals(ByteBuffer.wrap(small), read.get(0));
        assertEquals(ByteBuffer.wrap(large), read.get(1));
        assertEquals(ByteBuffer.wrap(small, 50, 50), slices.get(0));
        assertEquals(ByteBuffer.wrap(large, 50, large.length - 50), slices.get(1));
    }

    @Test
    void openingCreatesNothing() {
        try (Log log = Log.open(options())) {
            log.check();
            assertFalse(log.scan().hasNext());
        }
        assertFalse(Files.exists(temp.resolve("log")));
    }

    @Test
    void scanIsInWriteOrderAndSurvivesReopening() {
        List<byte[]> records = new ArrayList<>();
        try (Log log = Log.open(options())) {
            for (int i = 0; i < 200; i++) {
                records.add(random(i, i * 997 % 5000));
                // Times may go backwards: they are not the order.
                log.append(ByteBuffer.wrap(records.get(i)), 1000 - i);
            }
        }
        try (Log log = Log.open(options()); Records scan = log.scan()) {
            for (byte[] record : records) {
                ByteBuffer next = scan.next();
                assertEquals(0, next.position());
                assertArrayEquals(record, bytes(next));
            }
            assertFalse(scan.hasNext());
            assertEquals("there are no more records", assertThrows(NoSuchElementException.class, scan::next).getMessage());
            RecoveryReport report = log.report().orElseThrow();
            assertEquals(0, report.corrupt());
        }
    }

    /** A scan that was cut short must not look like one that came to its end. */
    @Test
    void recordsThatWereClosedAreNoEnd() {
        try (Log log = Log.open(options())) {
            log.append(ByteBuffer.allocate(10), 1);
            log.append(ByteBuffer.allocate(20), 1);
            Records records = log.scan();
            assertEquals(10, records.next().remaining());
            assertTrue(records.hasNext());
            records.close();
            records.close();
            String message = "the records were closed before their end was reached: scan the log again";
            assertEquals(message, assertThrows(IllegalStateException.class, records::hasNext).getMessage());
            assertEquals(message, assertThrows(IllegalStateException.class, records::next).getMessage());
            // Whoever came to the end, as Spark does, and closes then, is told the same as before.
            Records all = log.scan();
            all.forEachRemaining(record -> assertTrue(record.hasRemaining()));
            all.close();
            assertFalse(all.hasNext());
            assertThrows(NoSuchElementException.class, all::next);
        }
    }

    @Test
    void everythingButCloseIsRefusedAfterClose() {
        Log log = Log.open(options());
        RecordLocation location = log.append(ByteBuffer.allocate(10), 1);
        log.close();
        log.close();
        String message = "the log " + temp.resolve("log") + " is closed";
        ByteBuffer record = ByteBuffer.allocate(1);
        assertEquals(message, assertThrows(IllegalStateException.class, () -> log.append(record, 1)).getMessage());
        assertEquals(message, assertThrows(IllegalStateException.class, () -> log.read(location)).getMessage());
        assertEquals(message, assertThrows(IllegalStateException.class, log::scan).getMessage());
        assertEquals(message, assertThrows(IllegalStateException.class, () -> log.clean(1, true)).getMessage());
        assertEquals(message, assertThrows(IllegalStateException.class, log::check).getMessage());
        assertEquals(message, assertThrows(IllegalStateException.class, log::report).getMessage());
    }

    @Test
    void aWriteAfterCloseIsDurableWhereItIsAllowed() {
        Log log = Log.open(options().writeAfterClose(true));
        log.append(ByteBuffer.wrap(new byte[] {1}), 1);
        log.close();
        log.append(ByteBuffer.wrap(new byte[] {2}), 2);
        log.clean(Long.MAX_VALUE, true);
        try (Log again = Log.open(options()); Records scan = again.scan()) {
            assertArrayEquals(new byte[] {1}, bytes(scan.next()));
            assertArrayEquals(new byte[] {2}, bytes(scan.next()));
            assertFalse(scan.hasNext());
        }
    }

    @Test
    void closingOneInstanceLeavesItsSiblingOpen() {
        Log first = Log.open(options());
        try (Log second = Log.open(options())) {
            RecordLocation location = first.append(ByteBuffer.wrap(new byte[] {7}), 1);
            first.close();
            assertEquals(7, second.read(location).get());
            assertEquals(8, second.read(second.append(ByteBuffer.wrap(new byte[] {8}), 2)).get());
        }
    }

    @Test
    void aLocationThatIsNotOfThisLogIsRefused() {
        try (Log log = Log.open(options())) {
            RecordLocation real = log.append(ByteBuffer.allocate(100), 1);
            RecordLocation foreign = new RecordLocation(real.logHigh() + 1, real.logLow(), real.writerHigh(),
                real.writerLow(), real.segment(), real.offset(), real.length(), real.crc(), real.version());
            assertThrows(ForeignLogException.class, () -> log.read(foreign));
            RecordLocation huge = new RecordLocation(real.logHigh(), real.logLow(), real.writerHigh(),
                real.writerLow(), real.segment(), real.offset(), Integer.MAX_VALUE, real.crc(), real.version());
            assertThrows(LogException.class, () -> log.read(huge));
            RecordLocation wrong = new RecordLocation(real.logHigh(), real.logLow(), real.writerHigh(),
                real.writerLow(), real.segment(), real.offset(), real.length(), real.crc() + 1, real.version());
            assertThrows(CorruptRecordException.class, () -> log.read(wrong));
            assertEquals(100, log.read(real).remaining());
        }
    }

    /** By the name of the method that set it, with the value and what is allowed. */
    @Test
    void whatIsOutOfItsRangeIsRefusedByTheNameOfItsOption() {
        LogOptions options = options();
        for (long bytes : new long[] {Long.MIN_VALUE, -1, 0, 5, 1 << 20, (8 << 20) - 1}) {
            assertRefused("memory must be 16 MiB at least, not " + bytes + " bytes", options.memory(bytes));
            assertRefused("mostPut must be 8 MiB to 1 GiB, not " + bytes + " bytes", options.mostPut(bytes));
        }
        for (long bytes : new long[] {Long.MIN_VALUE, -1, 0, 5, (1 << 20) - 1, (1L << 40) + 1, Long.MAX_VALUE}) {
            assertRefused("segmentSize must be 1 MiB to 1 TiB, not " + bytes + " bytes", options.segmentSize(bytes));
        }
        assertRefused("mostPut must be 8 MiB to 1 GiB, not " + Long.MAX_VALUE + " bytes", options.mostPut(Long.MAX_VALUE));
        for (int attempts : new int[] {Integer.MIN_VALUE, -1, 0}) {
            assertRefused("maxFailures must be 1 at least, not " + attempts, options.maxFailures(attempts));
        }
        // Also where nothing is compressed by it.
        for (LogOptions.Compression compression : LogOptions.Compression.values()) {
            for (int level : new int[] {Integer.MIN_VALUE, -8, 23, Integer.MAX_VALUE}) {
                assertRefused("zstdLevel must be -7 to 22, not " + level, options.compression(compression).zstdLevel(level));
            }
        }
        for (LogOptions good : List.of(options.memory(16 << 20), options.memory(Long.MAX_VALUE), options.segmentSize(1 << 20),
                options.segmentSize(1L << 40), options.mostPut(8 << 20), options.mostPut(1 << 30), options.maxFailures(1),
                options.maxFailures(Integer.MAX_VALUE), options.zstdLevel(-7), options.zstdLevel(22))) {
            Log.open(good).close();
        }
    }

    /** Also one that has more milliseconds than a number can say, and a part of one that would be cut off. */
    @Test
    void aTimeThatIsOutOfItsRangeIsRefusedByTheNameOfItsOption() {
        LogOptions options = options();
        Duration longest = Duration.ofSeconds(Long.MAX_VALUE);
        Duration year = Duration.ofDays(365);
        for (Duration time : List.of(Duration.ofMillis(-1), Duration.ofNanos(-1), longest.negated(), longest,
                year.plusNanos(1))) {
            assertRefused("writeTimeout must be 0 to 365 days, not " + time, options.writeTimeout(time));
            assertRefused("rollingInterval must be 0 to 365 days, not " + time, options.rollingInterval(time));
            assertRefused("lockWait must be 0 to 365 days, not " + time, options.lockWait(time));
            assertRefused("linger must be 0 to 365 days, not " + time, options.linger(time));
            assertRefused("idleMark must be 0 to 365 days, not " + time, options.idleMark(time));
            assertRefused("summary must be 0, or 1 second to 365 days, not " + time, options.summary(time));
            assertRefused("groupLinger must be 0 to 1 second, not " + time, options.groupLinger(time));
            if (time.isNegative()) {
                assertRefused("cleanGrace must be 0 or more, not " + time, options.cleanGrace(time));
            }
        }
        for (Duration often : List.of(Duration.ofNanos(1), Duration.ofMillis(999))) {
            assertRefused("summary must be 0, or 1 second to 365 days, not " + often, options.summary(often));
        }
        assertRefused("groupLinger must be 0 to 1 second, not PT1.001S", options.groupLinger(Duration.ofMillis(1001)));
        for (LogOptions good : List.of(options.writeTimeout(year), options.rollingInterval(year), options.lockWait(year),
                options.idleMark(year), options.summary(year), options.summary(Duration.ofSeconds(1)),
                options.groupLinger(Duration.ofSeconds(1)), options.writeTimeout(Duration.ZERO),
                options.rollingInterval(Duration.ZERO), options.lockWait(Duration.ZERO), options.idleMark(Duration.ZERO),
                options.summary(Duration.ZERO), options.groupLinger(Duration.ZERO), options.cleanGrace(Duration.ZERO),
                // A grace has no bound: nothing is ever cleaned.
                options.cleanGrace(longest))) {
            Log.open(good).close();
        }
        assertTrue(options.cleanGrace(longest).toString().contains("cleanGrace=" + Long.MAX_VALUE));
    }

    @Test
    void aDirectoryThatIsNoneIsRefused() {
        assertRefused("the log's directory must be an absolute path, not \"relative\"",
            LogOptions.in(Path.of("relative"), LogOptions.Role.DRIVER));
        String root = "the log's directory is the root directory: give each application one of its own, such as"
            + " /var/lib/my-app";
        assertRefused(root, LogOptions.in(Path.of("/"), LogOptions.Role.DRIVER));
        for (String dir : List.of("/", "//", "/.", "file:///", "file:/")) {
            assertRefused(root, LogOptions.at(dir, LogOptions.Role.RECEIVERS));
            assertEquals(root, assertThrows(IllegalArgumentException.class, () -> Log.overrides(dir, Map.of())).getMessage());
        }
        String nul = "the log's directory has a NUL character in its name, which no file system takes: \"/var\\0lib\"";
        for (String dir : List.of("/var\0lib", "file:///var%00lib")) {
            assertRefused(nul, LogOptions.at(dir, LogOptions.Role.RECEIVERS));
            assertEquals(nul, assertThrows(IllegalArgumentException.class, () -> Log.overrides(dir, Map.of())).getMessage());
        }
        for (String scheme : List.of("s3a", "gs", "hdfs")) {
            assertRefused("the " + scheme + ": location has a NUL character in it: take it out",
                LogOptions.at(scheme + "://place/my\0app", LogOptions.Role.RECEIVERS));
        }
    }

    private static void assertRefused(String message, LogOptions options) {
        Executable open = () -> Log.open(options).close();
        assertEquals(message, assertThrows(IllegalArgumentException.class, open, message).getMessage());
    }

    @Test
    void aNullIsRefusedByTheNameOfItsArgument() {
        LogOptions options = options();
        assertNull("dir must be the path of the application's directory, not null",
            () -> LogOptions.in(null, LogOptions.Role.DRIVER));
        assertNull("location must be a path or a URI, not null", () -> LogOptions.at(null, LogOptions.Role.DRIVER));
        assertNull("role must be DRIVER or RECEIVERS, not null", () -> LogOptions.in(temp, null));
        assertNull("properties must be a map, not null", () -> options.store(null));
        assertNull("properties must have a value for fs.key, not null",
            () -> options.store(Collections.singletonMap("fs.key", null)));
        assertNull("key must say where the key is, and not be null", () -> options.encryption(null));
        assertNull("older must say where each key is, and hold no null", () -> options.encryption("env:A", (String) null));
        assertNull("keys must be an array, not null", () -> options.decryption((String[]) null));
        assertNull("bound must be a Duration, not null", () -> options.writeTimeout(null));
        assertNull("recovery must be a Recovery, not null", () -> options.recovery(null));
        assertNull("options must be LogOptions, not null", () -> Log.open(null));
        assertNull("dir must be a path or a URI, not null", () -> Log.overrides(null, Map.of()));
        assertNull("store must be a map, not null", () -> Log.overrides(temp.toString(), null));
        assertNull("store must have a value for fs.key, not null",
            () -> Log.overrides(temp.toString(), Collections.singletonMap("fs.key", null)));
        assertNull("store must have no null key", () -> Log.overrides(temp.toString(), Collections.singletonMap(null, "x")));
        assertNull("properties must have no null key", () -> options.store(Collections.singletonMap(null, "x")));
        try (Log log = Log.open(options)) {
            assertNull("record must be a ByteBuffer, not null", () -> log.append(null, 1));
            assertNull("location must be what append returned, not null", () -> log.read(null));
        }
    }

    private static void assertNull(String message, Executable call) {
        assertEquals(message, assertThrows(NullPointerException.class, call).getMessage());
    }

    @Test
    void anAbandonedScanLetsGoOfItsFiles() throws IOException {
        // Of a log that nobody writes to, so that only the scan has its segments open.
        try (Log writer = Log.open(options().segmentSize(1 << 20))) {
            for (int i = 0; i < 40; i++) {
                writer.append(ByteBuffer.allocate(100_000), 1);
            }
        }
        try (Log log = Log.open(options())) {
            long before = openSegments();
            abandonAScan(log);
            assertTrue(openSegments() > before, "the scan holds nothing: this test tests nothing");
            long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (openSegments() > before) {
                assertTrue(System.nanoTime() < until, "an abandoned scan still holds its files");
                System.gc();
            }
        }
    }

    private static void abandonAScan(Log log) {
        assertEquals(100_000, log.scan().next().remaining());
    }

    /** How many segments of this test's log this process has open. */
    private long openSegments() throws IOException {
        long open = 0;
        try (DirectoryStream<Path> descriptors = Files.newDirectoryStream(Path.of("/proc/self/fd"))) {
            for (Path descriptor : descriptors) {
                try {
                    String target = Files.readSymbolicLink(descriptor).toString();
                    open += target.startsWith(temp.toString()) && target.contains(".seg") ? 1 : 0;
                } catch (NoSuchFileException e) {
                    // Closed since it was listed.
                }
            }
        }
        return open;
    }

    @Test
    void memoryOutsideOfTheHeapIsBounded() {
        try (Log log = Log.open(options())) {
            byte[] record = random(5, 4 << 20);
            RecordLocation location = log.append(ByteBuffer.wrap(record), 1);
            List<ByteBuffer> held = new ArrayList<>();
            for (int i = 0; i < 40; i++) {
                held.add(log.read(location));
                assertTrue(Buffers.outstanding() <= Buffers.MOST_DIRECT, () -> Buffers.outstanding() + " bytes");
            }
            long direct = held.stream().filter(ByteBuffer::isDirect).count();
            assertTrue(direct <= Buffers.MOST_DIRECT / record.length, () -> direct + " direct buffers");
            held.forEach(buffer -> assertEquals(ByteBuffer.wrap(record), buffer));
        }
    }

    @Test
    void manyThreadsWriteAndReadWhileOthersCleanAndClose() throws Exception {
        long seed = System.nanoTime();
        System.out.println("seed of manyThreadsWriteAndReadWhileOthersCleanAndClose: " + seed);
        LogOptions options = options().cleanGrace(Duration.ZERO).segmentSize(1 << 20);
        ExecutorService threads = Executors.newFixedThreadPool(72);
        try (Log keeper = Log.open(options)) {
            List<Callable<Void>> jobs = new ArrayList<>();
            for (int i = 0; i < 64; i++) {
                long mine = seed + i;
                jobs.add(() -> {
                    Random random = new Random(mine);
                    for (int round = 0; round < 10; round++) {
                        // Opened and closed all the time, as Spark does.
                        try (Log log = Log.open(options)) {
                            for (int n = 0; n < 10; n++) {
                                byte[] record = random(random.nextLong(), random.nextInt(20_000));
                                long time = 1_000_000 + round;
                                ByteBuffer buffer = random.nextBoolean() ? ByteBuffer.wrap(record) : direct(record);
                                assertArrayEquals(record, bytes(log.read(log.append(buffer, time))));
                            }
                        }
                    }
                    return null;
                });
            }
            for (int i = 0; i < 8; i++) {
                jobs.add(() -> {
                    for (int round = 0; round < 20; round++) {
                        try (Log log = Log.open(options)) {
                            log.clean(1000 + round, round % 2 == 0);
                            try (Records records = log.scan()) {
                                for (int n = 0; n < 20 && records.hasNext(); n++) {
                                    records.next();
                                }
                            }
                        }
                    }
                    return null;
                });
            }
            for (Future<Void> job : threads.invokeAll(jobs, 120, TimeUnit.SECONDS)) {
                job.get();
            }
            int count = 0;
            for (Records records = keeper.scan(); records.hasNext(); records.next()) {
                count++;
            }
            assertEquals(6400, count);
        } finally {
            threads.shutdownNow();
        }
    }

    @Test
    void closingInTheMiddleOfWritesIsClean() throws Exception {
        for (int round = 0; round < 20; round++) {
            Log log = Log.open(options());
            ExecutorService threads = Executors.newFixedThreadPool(8);
            List<Future<List<RecordLocation>>> writers = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                writers.add(threads.submit(() -> {
                    List<RecordLocation> acknowledged = new ArrayList<>();
                    try {
                        while (true) {
                            acknowledged.add(log.append(ByteBuffer.allocate(1000), 1));
                        }
                    } catch (IllegalStateException closed) {
                        return acknowledged;
                    }
                }));
            }
            log.append(ByteBuffer.allocate(1), 1);
            log.close();
            threads.shutdown();
            assertTrue(threads.awaitTermination(30, TimeUnit.SECONDS));
            try (Log again = Log.open(options())) {
                for (Future<List<RecordLocation>> writer : writers) {
                    for (RecordLocation location : writer.get()) {
                        assertEquals(1000, again.read(location).remaining());
                    }
                }
            }
        }
    }
}
