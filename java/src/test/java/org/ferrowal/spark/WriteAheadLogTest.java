package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import org.apache.spark.serializer.JavaSerializer;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.apache.spark.streaming.util.WriteAheadLogUtils;
import org.ferrowal.Child;
import org.ferrowal.CorruptRecordException;
import org.ferrowal.ForeignLogException;
import org.ferrowal.LogLockedException;
import org.ferrowal.MissingLogException;
import org.ferrowal.Program;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The two logs as Spark makes and calls them. */
class WriteAheadLogTest {
    @TempDir
    private Path temp;

    private SparkConf conf() {
        return new SparkConf(false)
            .set("spark.streaming.receiver.writeAheadLog.class", ReceiverWriteAheadLog.class.getName())
            .set("spark.streaming.driver.writeAheadLog.class", DriverWriteAheadLog.class.getName())
            .set("spark.ferrowal.dir", temp.resolve("log").toUri().toString())
            .set("spark.ferrowal.clean.grace", "0s")
            .set("spark.ferrowal.linger", "0s")
            .set("spark.ferrowal.lock.wait", "1s");
    }

    private static WriteAheadLog driver(SparkConf conf) {
        return WriteAheadLogUtils.createLogForDriver(conf, "unused", new Configuration(false));
    }

    private static WriteAheadLog receiver(SparkConf conf) {
        return WriteAheadLogUtils.createLogForReceiver(conf, "unused", new Configuration(false));
    }

    private static ByteBuffer bytes(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(ByteBuffer buffer) {
        return StandardCharsets.UTF_8.decode(buffer).toString();
    }

    private static List<String> all(WriteAheadLog log) {
        List<String> all = new ArrayList<>();
        for (Iterator<ByteBuffer> records = log.readAll(); records.hasNext(); ) {
            all.add(text(records.next()));
        }
        return all;
    }

    @Test
    void sparkMakesBothAndTheyCreateNothing() {
        WriteAheadLog driver = driver(conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false"));
        WriteAheadLog receiver = receiver(conf());
        assertInstanceOf(DriverWriteAheadLog.class, driver);
        assertInstanceOf(ReceiverWriteAheadLog.class, receiver);
        assertFalse(driver.readAll().hasNext());
        driver.close();
        receiver.close();
        assertFalse(Files.exists(temp.resolve("log")));
    }

    private void readAllIsInWriteOrder(boolean batching) throws Exception {
        SparkConf conf = conf().set("spark.streaming.driver.writeAheadLog.allowBatching", Boolean.toString(batching));
        List<String> written = new ArrayList<>();
        WriteAheadLog log = driver(conf);
        for (int i = 0; i < 100; i++) {
            written.add("event " + i);
            log.write(bytes(written.get(i)), 1000 + i);
        }
        log.close();
        WriteAheadLog recovered = driver(conf);
        assertEquals(written, all(recovered));
        recovered.close();
    }

    @Test
    void readAllIsInWriteOrderWithBatching() throws Exception {
        readAllIsInWriteOrder(true);
    }

    @Test
    void readAllIsInWriteOrderWithoutBatching() throws Exception {
        readAllIsInWriteOrder(false);
    }

    @Test
    void concurrentDriverEventsAllComeBackWithBatching() throws Exception {
        WriteAheadLog log = driver(conf());
        ExecutorService threads = Executors.newFixedThreadPool(8);
        List<Future<?>> writes = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            String event = "event " + i;
            long time = 1000 + i;
            writes.add(threads.submit(() -> log.write(bytes(event), time)));
        }
        for (Future<?> write : writes) {
            write.get();
        }
        threads.shutdown();
        log.close();
        WriteAheadLog recovered = driver(conf());
        assertEquals(200, all(recovered).stream().distinct().count());
        recovered.close();
    }

    @Test
    void aReadBufferIsUsedAfterClose() {
        WriteAheadLog log = receiver(conf());
        WriteAheadLogRecordHandle small = log.write(bytes("a block"), 1000);
        byte[] large = new byte[1 << 20];
        Arrays.fill(large, (byte) 7);
        WriteAheadLogRecordHandle big = log.write(ByteBuffer.wrap(large), 1001);
        log.close();
        // As a partition does it: a log for one read, closed before the buffer is used.
        for (int i = 0; i < 8; i++) {
            WriteAheadLog reader = receiver(conf());
            ByteBuffer buffer = reader.read(i % 2 == 0 ? small : big);
            reader.close();
            System.gc();
            assertEquals(0, buffer.position());
            assertEquals(i % 2 == 0 ? bytes("a block") : ByteBuffer.wrap(large), buffer);
        }
    }

    @Test
    void writeAndCleanAfterCloseSucceed() {
        WriteAheadLog log = driver(conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false"));
        log.write(bytes("before"), 1000);
        log.close();
        log.write(bytes("after"), 1001);
        log.clean(2000, true);
        log.close();
        WriteAheadLog recovered = driver(conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false"));
        assertEquals(List.of("before", "after"), all(recovered));
        recovered.close();
    }

    @Test
    void cleanIsExactWithoutGrace() {
        SparkConf conf = conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false");
        WriteAheadLog log = driver(conf);
        for (int time = 1234; time <= 1237; time++) {
            log.write(bytes("at " + time), time);
        }
        log.clean(1236, true);
        assertEquals(List.of("at 1236", "at 1237"), all(log));
        log.close();
        WriteAheadLog recovered = driver(conf);
        assertEquals(List.of("at 1236", "at 1237"), all(recovered));
        recovered.close();
    }

    @Test
    void driverAndReceiversDoNotMix() {
        SparkConf conf = conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false");
        WriteAheadLog driver = driver(conf);
        WriteAheadLog receiver = receiver(conf);
        driver.write(bytes("event"), 1000);
        receiver.write(bytes("block"), 1000);
        assertEquals(List.of("event"), all(driver));
        assertEquals(List.of("block"), all(receiver));
        driver.close();
        receiver.close();
    }

    @Test
    void twoReceiversOfOneExecutorShareTheLog() {
        WriteAheadLog first = receiver(conf());
        WriteAheadLog second = receiver(conf());
        WriteAheadLogRecordHandle a = first.write(bytes("a"), 1000);
        WriteAheadLogRecordHandle b = second.write(bytes("b"), 1001);
        first.close();
        // The relaunched receiver gets a new instance; the other goes on.
        WriteAheadLog relaunched = receiver(conf());
        WriteAheadLogRecordHandle c = relaunched.write(bytes("c"), 1002);
        WriteAheadLogRecordHandle d = second.write(bytes("d"), 1003);
        for (WriteAheadLog log : List.of(second, relaunched)) {
            assertEquals("abcd", Stream.of(a, b, c, d).map(handle -> text(log.read(handle))).collect(Collectors.joining()));
            log.close();
        }
    }

    @Test
    void aFreshStartReplaysNothing() {
        SparkConf conf = conf().set("spark.streaming.driver.writeAheadLog.allowBatching", "false");
        WriteAheadLog old = driver(conf);
        old.write(bytes("of an earlier life"), 1000);
        old.close();
        // A driver without a checkpoint writes first; one with a checkpoint reads first.
        WriteAheadLog fresh = driver(conf);
        fresh.write(bytes("of this life"), 1000);
        assertEquals(List.of("of this life"), all(fresh));
        fresh.close();
        WriteAheadLog recovered = driver(conf);
        assertEquals(List.of("of this life"), all(recovered));
        recovered.close();
    }

    @Test
    void aForeignHandleIsRefused() {
        WriteAheadLog log = receiver(conf());
        log.write(bytes("block"), 1);
        WriteAheadLogRecordHandle foreign = new WriteAheadLogRecordHandle() {
            private static final long serialVersionUID = 1L;
        };
        assertEquals("not a handle of ferrowal's: " + foreign.getClass().getName() + "; was the log's class changed after"
            + " the checkpoint was made?",
            assertThrows(IllegalArgumentException.class, () -> log.read(foreign)).getMessage());
        SparkConf other = conf().set("spark.ferrowal.dir", temp.resolve("other").toString());
        WriteAheadLog elsewhere = receiver(other);
        WriteAheadLogRecordHandle theirs = elsewhere.write(bytes("theirs"), 1);
        assertThrows(ForeignLogException.class, () -> log.read(theirs));
        log.close();
        elsewhere.close();
    }

    /** Changes one byte of the first place in the log's files that holds the text. */
    static void damage(Path log, String text) throws IOException {
        byte[] wanted = text.getBytes(StandardCharsets.UTF_8);
        List<Path> files;
        try (Stream<Path> walk = Files.walk(log)) {
            files = walk.filter(Files::isRegularFile).sorted().collect(Collectors.toList());
        }
        for (Path file : files) {
            byte[] bytes = Files.readAllBytes(file);
            for (int i = 0; i + wanted.length <= bytes.length; i++) {
                if (bytes[i] == wanted[0] && Arrays.equals(bytes, i, i + wanted.length, wanted, 0, wanted.length)) {
                    bytes[i + wanted.length / 2] ^= 1;
                    Path copy = file.resolveSibling("copy");
                    Files.write(copy, bytes);
                    Files.move(copy, file, StandardCopyOption.REPLACE_EXISTING);
                    return;
                }
            }
        }
        throw new AssertionError("no file below " + log + " holds " + text);
    }

    @Test
    void salvageGivesAnEmptyBlockForOneThatIsProvenDamaged() throws Exception {
        WriteAheadLog log = receiver(conf());
        WriteAheadLogRecordHandle good = log.write(bytes("a block that stays whole"), 1000);
        WriteAheadLogRecordHandle bad = log.write(bytes("a block that will be damaged"), 1001);
        log.close();
        damage(temp.resolve("log"), "a block that will be damaged");

        WriteAheadLog strict = receiver(conf());
        assertThrows(CorruptRecordException.class, () -> strict.read(bad));
        strict.close();

        SparkConf salvage = conf().set("spark.ferrowal.recovery", "salvage");
        long before = ReceiverWriteAheadLog.salvagedReads();
        WriteAheadLog log2 = receiver(salvage);
        assertEquals("a block that stays whole", text(log2.read(good)));
        ByteBuffer empty = log2.read(bad);
        assertEquals(before + 1, ReceiverWriteAheadLog.salvagedReads());
        assertFalse(new JavaSerializer(new SparkConf(false)).newInstance()
            .deserializeStream(new java.io.ByteArrayInputStream(empty.array())).asIterator().hasNext());
        log2.close();

        WriteAheadLog kryo = receiver(salvage.clone().set("spark.serializer", "org.apache.spark.serializer.KryoSerializer"));
        assertEquals(0, kryo.read(bad).remaining());
        kryo.close();

        WriteAheadLog other = receiver(salvage.clone().set("spark.serializer", "my.Serializer"));
        assertThrows(CorruptRecordException.class, () -> other.read(bad));
        other.close();

        // Absence is not damage, and is never salvaged.
        WriteAheadLog gone = receiver(salvage.clone().set("spark.ferrowal.dir", temp.resolve("elsewhere").toString()));
        assertThrows(MissingLogException.class, () -> gone.read(good));
        gone.close();
    }

    @Test
    void aLiveDriverElsewhereStopsTheConstructor() {
        Path dir = temp.resolve("log");
        try (Child other = Child.plain(Program.class, List.of(), "hold", dir.toString())) {
            other.await(line -> line.equals("holding"), Duration.ofSeconds(60));
            Throwable failure = assertThrows(Exception.class, () -> driver(conf()));
            while (failure.getCause() != null) {
                failure = failure.getCause();
            }
            assertInstanceOf(LogLockedException.class, failure);
            String message = failure.getMessage();
            assertTrue(message.startsWith("the log " + dir.resolve("driver") + " is in use by "), message);
            assertTrue(message.contains(Long.toString(other.pid())), message);
            assertTrue(message.endsWith("): stop it, or give this application a directory of its own"), message);
            // One that lets go in time is waited for.
            other.endInput();
            other.await(line -> line.equals("let go"), Duration.ofSeconds(60));
        }
        driver(conf()).close();
    }

    private static String logged() throws IOException {
        return Files.readString(Path.of(System.getProperty("ferrowal.test.work"), "tests.log"));
    }

    @Test
    void aDirectoryThatWillNotLastIsSaid() throws IOException {
        Path shm = Path.of("/dev/shm");
        assumeTrue(Files.isDirectory(shm) && Files.getFileStore(shm).type().equals("tmpfs"), "no tmpfs here");
        Path dir = shm.resolve("ferrowal-" + temp.getFileName());
        receiver(conf().set("spark.ferrowal.dir", dir.toString())).close();
        assertFalse(Files.exists(dir));
        String line = "WARN ferrowal: spark.ferrowal.dir=" + dir + " lies on tmpfs, whose contents go with the machine,"
            + " container or pod: the log does not survive a restart there";
        assertTrue(logged().contains(line), line);
    }

    @Test
    void aDirectoryOfEachMachineUnderAMasterThatIsNotLocalIsSaid() throws IOException {
        Path local = temp.resolve("local");
        Path cluster = temp.resolve("cluster");
        SparkConf conf = conf().set("spark.ferrowal.dir", local.toString());
        receiver(conf.clone().set("spark.master", "local-cluster[2,1,1024]")).close();
        receiver(conf.clone().set("spark.ferrowal.dir", cluster.toString()).set("spark.master", "spark://host:7077"))
            .close();
        String logged = logged();
        String line = "WARN ferrowal: spark.ferrowal.dir=" + cluster + " is a directory of each machine, and the master is"
            + " spark://host:7077: unless it is a file system that all machines share, a block cannot be read back on"
            + " another machine than the one that received it";
        assertTrue(logged.contains(line), line);
        assertFalse(logged.contains("spark.ferrowal.dir=" + local + " is a directory of each machine"));
    }

    @Test
    void anOverrideIsSaid() throws IOException {
        Path file = Files.createDirectories(temp.resolve("log")).resolve("ferrowal.properties");
        Files.writeString(file, "spark.ferrowal.recovery=salvage\n");
        receiver(conf()).close();
        String line = "WARN ferrowal: " + file + " sets spark.ferrowal.recovery=salvage (the application's configuration"
            + " says nothing)";
        assertTrue(logged().contains(line), line);
    }

    @Test
    void nativeLinesReachTheLog() throws IOException {
        WriteAheadLog log = receiver(conf());
        log.write(bytes("block"), 1);
        log.close();
        damage(temp.resolve("log"), "block");
        WriteAheadLog scanned = receiver(conf().set("spark.ferrowal.recovery", "salvage"));
        assertEquals(List.of(), all(scanned));
        scanned.close();
        assertTrue(logged().contains(temp.resolve("log").toString()));
        assertTrue(logged().lines().anyMatch(line -> line.contains(" ferrowal: ") && line.contains("corrupt")
            && line.contains(temp.getFileName().toString())));
    }

    @Test
    void cleanReturnsAtOnce() {
        WriteAheadLog log = receiver(conf());
        for (int i = 0; i < 100; i++) {
            log.write(ByteBuffer.allocate(100_000), i);
        }
        long start = System.nanoTime();
        log.clean(100, false);
        long took = System.nanoTime() - start;
        assertTrue(took < 500_000_000L, "clean took " + took + " ns");
        log.close();
    }
}
