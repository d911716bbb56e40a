package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Logs in a real HDFS of four processes: {@code make check-homes} starts it. */
class HdfsTest {
    private static final Duration BOUND = Duration.ofSeconds(90);

    private String uri;
    private String dir;
    private long seed;

    @BeforeEach
    void cluster() {
        String[] said = System.getProperty("ferrowal.test.store", "").trim().split(" +");
        assumeTrue(said[0].startsWith("hdfs:"), "a cluster is started by make check-hdfs");
        uri = said[0];
        seed = System.nanoTime();
        dir = uri + "/" + Long.toHexString(seed) + "/log";
        System.out.println("seed: " + seed);
    }

    private LogOptions receivers() {
        return HdfsWriter.options(dir, LogOptions.Role.RECEIVERS);
    }

    private LogOptions driver() {
        return HdfsWriter.options(dir, LogOptions.Role.DRIVER);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    private static List<Integer> scanned(Log log) {
        List<Integer> numbers = new ArrayList<>();
        try (Records records = log.scan()) {
            while (records.hasNext()) {
                byte[] record = bytes(records.next());
                int number = ByteBuffer.wrap(record).getInt();
                assertArrayEquals(HdfsWriter.record(number, record.length), record, () -> "record " + number);
                numbers.add(number);
            }
        }
        return numbers;
    }

    private static List<Integer> upTo(int from, int end) {
        List<Integer> numbers = new ArrayList<>();
        for (int i = from; i < end; i++) {
            numbers.add(i);
        }
        return numbers;
    }

    /** Kills, pauses or starts servers of the cluster. */
    private static void cluster(String command, String... servers) {
        List<String> line = new ArrayList<>(List.of("tests/homes/hdfs", command, System.getProperty("ferrowal.test.hdfs")));
        line.addAll(List.of(servers));
        try {
            Process process = new ProcessBuilder(line).inheritIO().start();
            assertTrue(process.waitFor(2, TimeUnit.MINUTES), () -> line + " takes too long");
            assertEquals(0, process.exitValue(), line::toString);
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private FileSystem system() throws IOException {
        Configuration conf = new Configuration();
        conf.set("dfs.replication", "3");
        conf.set("dfs.client.block.write.replace-datanode-on-failure.best-effort", "true");
        return FileSystem.newInstance(URI.create(uri), conf);
    }

    @Test
    void whatIsWrittenIsReadScannedCleanedAndThereAfterReopening() throws IOException {
        Map<Integer, RecordLocation> locations = new LinkedHashMap<>();
        try (Log log = Log.open(receivers().cleanGrace(Duration.ZERO).rollingInterval(Duration.ofSeconds(1)))) {
            for (int i = 0; i < 40; i++) {
                // Small, large, and longer than any buffer; times that roll the segment after every ten.
                int length = i % 13 == 12 ? 9 << 20 : i * 1000;
                locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, length)), i * 100L));
                // Read at once, through a stream that may have been opened before.
                assertArrayEquals(HdfsWriter.record(i, length), bytes(log.read(locations.get(i))), "record " + i);
            }
            assertEquals(upTo(0, 40), scanned(log));
            log.clean(2500, true);
            List<Integer> left = scanned(log);
            assertEquals(upTo(25, 40), left);
            assertThrows(RecordGoneException.class, () -> log.read(locations.get(0)));
        }
        try (FileSystem system = system()) {
            String path = URI.create(dir).getPath();
            assertEquals("rwx------", system.getFileStatus(new org.apache.hadoop.fs.Path(path)).getPermission().toString());
            for (FileStatus writer : system.listStatus(new org.apache.hadoop.fs.Path(path, "receivers"))) {
                for (FileStatus file : system.listStatus(writer.getPath())) {
                    assertEquals("rw-------", file.getPermission().toString());
                    assertTrue(file.getLen() > 0, file.getPath() + " was not closed");
                }
            }
        }
        try (Log log = Log.open(receivers())) {
            assertEquals(upTo(25, 40), scanned(log));
            assertArrayEquals(HdfsWriter.record(39, 39_000), bytes(log.read(locations.get(39))));
            locations.put(40, log.append(ByteBuffer.wrap(HdfsWriter.record(40, 10)), 4000));
            assertEquals(upTo(25, 41), scanned(log));
        }
    }

    /** A driver that writes first sets aside what is there. Each life has several segments. */
    @Test
    void whatAFreshStartWritesIsThereAfterReopening() {
        int next = 0;
        for (int records : new int[] {7, 1, 9, 4}) {
            try (Log log = Log.open(driver().rollingInterval(Duration.ofSeconds(1)))) {
                for (int i = 0; i < records; i++) {
                    log.append(ByteBuffer.wrap(HdfsWriter.record(next + i, 100)), i * 250L);
                }
            }
            for (int again = 0; again < 2; again++) {
                try (Log log = Log.open(driver())) {
                    assertEquals(upTo(next, next + records), scanned(log));
                    log.check();
                }
            }
            next += records;
        }
    }

    @Test
    void aDriverGoesOnWhereTheLastOneWasKilled() {
        int next = 0;
        Set<Integer> acknowledged = new HashSet<>();
        for (int life = 0; life < 3; life++) {
            try (Child child = child("DRIVER", next, 100)) {
                int until = next + 20;
                child.await(line -> line.startsWith("acknowledged " + until), BOUND);
                child.kill();
                next = note(child, acknowledged);
            }
        }
        try (Log log = Log.open(driver())) {
            log.check();
            List<Integer> found = scanned(log);
            assertTrue(new HashSet<>(found).containsAll(acknowledged), () -> "lost: " + missing(acknowledged, found));
            int last = next;
            log.append(ByteBuffer.wrap(HdfsWriter.record(last, 100)), last);
            found.add(last);
            assertEquals(found, scanned(log));
        }
    }

    @Test
    void anExecutorThatWasKilledIsReadByOthers() {
        Set<Integer> acknowledged = new HashSet<>();
        try (Child child = child("RECEIVERS", 0, 5000)) {
            child.await(line -> line.startsWith("acknowledged 50"), BOUND);
            child.kill();
            note(child, acknowledged);
        }
        try (Log log = Log.open(receivers().cleanGrace(Duration.ZERO))) {
            List<Integer> found = scanned(log);
            assertTrue(new HashSet<>(found).containsAll(acknowledged), () -> "lost: " + missing(acknowledged, found));
        }
    }

    @Test
    void aDriverThatIsPausedIsFencedWhenItWakes() throws Exception {
        Set<Integer> acknowledged = new HashSet<>();
        try (Child zombie = child("DRIVER", 0, 100)) {
            zombie.await(line -> line.startsWith("acknowledged 20"), BOUND);
            signal(zombie, "-STOP");
            int first = 1_000_000;
            List<Integer> found;
            try (Log log = Log.open(driver().lockWait(Duration.ofSeconds(30)))) {
                found = scanned(log);
                log.append(ByteBuffer.wrap(HdfsWriter.record(first, 100)), 1);
                signal(zombie, "-CONT");
                zombie.await(line -> line.startsWith("failed ") && line.contains("LogFencedException"), BOUND);
                note(zombie, acknowledged);
                log.append(ByteBuffer.wrap(HdfsWriter.record(first + 1, 100)), 2);
                found = scanned(log);
            }
            List<Integer> all = found;
            assertTrue(new HashSet<>(all).containsAll(acknowledged), () -> "lost: " + missing(acknowledged, all));
            assertEquals(List.of(first, first + 1), all.subList(all.size() - 2, all.size()));
        }
    }

    @Test
    void ofTwoDriversOneHasTheLog() {
        try (Child one = child("DRIVER", 0, 100)) {
            one.await(line -> line.startsWith("acknowledged 5"), BOUND);
            try (Log log = Log.open(driver().lockWait(Duration.ofSeconds(1)))) {
                LogLockedException e = assertThrows(LogLockedException.class, log::check);
                assertTrue(e.getMessage().contains("pid " + one.pid()), e::getMessage);
                assertThrows(LogLockedException.class, () -> log.append(ByteBuffer.wrap(HdfsWriter.record(1, 10)), 1));
            }
            // And is left to whoever takes it.
            try (Log log = Log.open(driver().takeover(LogOptions.Takeover.FORCE))) {
                log.append(ByteBuffer.wrap(HdfsWriter.record(1_000_000, 100)), 1);
                one.await(line -> line.startsWith("failed ") && line.contains("LogFencedException"), BOUND);
            }
        }
    }

    @Test
    void dataNodesThatDieInThePipelineCostNothing() {
        Random random = new Random(seed);
        Map<Integer, RecordLocation> locations = new LinkedHashMap<>();
        long worst = 0;
        try (Log log = Log.open(receivers().rollingInterval(Duration.ofSeconds(1)))) {
            int i = 0;
            for (int round = 0; round < 3; round++) {
                String victim = "dn" + (1 + random.nextInt(3));
                for (int end = i + 100; i < end; i++) {
                    if (i == end - 60) {
                        cluster("kill", victim);
                    }
                    long began = System.nanoTime();
                    // Every fortieth rolls.
                    locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 20_000)), i * 25L));
                    worst = Math.max(worst, System.nanoTime() - began);
                }
                cluster("start");
            }
            int count = i;
            assertEquals(upTo(0, count), scanned(log));
            locations.forEach((n, location) -> assertArrayEquals(HdfsWriter.record(n, 20_000), bytes(log.read(location))));
        }
        System.out.println("longest append while DataNodes died: " + worst / 1_000_000 + " ms");
    }

    @Test
    void allDataNodesRestartUnderAnOpenLogAndAfterItsWritersDeath() {
        Set<Integer> acknowledged = new HashSet<>();
        try (Child child = child("RECEIVERS", 0, 3000)) {
            child.await(line -> line.startsWith("acknowledged 30"), BOUND);
            child.kill();
            note(child, acknowledged);
        }
        try (Log log = Log.open(receivers())) {
            log.append(ByteBuffer.wrap(HdfsWriter.record(500_000, 100)), 1);
            cluster("restart", "dn1", "dn2", "dn3");
            // Of the dead writer's last block no DataNode knows the length now; of ours the pipeline is gone.
            List<Integer> found = scanned(log);
            assertTrue(new HashSet<>(found).containsAll(acknowledged), () -> "lost: " + missing(acknowledged, found));
            log.append(ByteBuffer.wrap(HdfsWriter.record(500_001, 100)), 2);
            List<Integer> more = scanned(log);
            assertTrue(more.containsAll(List.of(500_000, 500_001)), more::toString);
        }
    }

    @Test
    void aDataNodeThatHangsCostsTimeAndNoRecord() {
        Map<Integer, RecordLocation> locations = new LinkedHashMap<>();
        LogOptions options = HdfsWriter.options(dir, LogOptions.Role.RECEIVERS, Map.of("ferrowal.test.timescale", "1",
            "dfs.client.socket-timeout", "2000", "dfs.client.datanode-restart.timeout", "1"));
        // The client adds five seconds for each DataNode of the pipeline.
        try (Log log = Log.open(options.writeTimeout(Duration.ofSeconds(60)).rollingInterval(Duration.ofSeconds(1)))) {
            for (int i = 0; i < 20; i++) {
                locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 20_000)), 0));
            }
            String victim = "dn" + (1 + new Random(seed).nextInt(3));
            cluster("pause", victim);
            long worst = 0;
            try {
                // Under an open segment, and at a roll.
                for (int i = 20; i < 40; i++) {
                    long began = System.nanoTime();
                    locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 20_000)), i < 30 ? 0 : 5000));
                    worst = Math.max(worst, System.nanoTime() - began);
                }
            } finally {
                cluster("resume", victim);
            }
            System.out.println("longest append while a DataNode hung: " + worst / 1_000_000 + " ms");
            for (int i = 40; i < 50; i++) {
                locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 20_000)), 9000));
            }
            assertEquals(upTo(0, 50), scanned(log));
            locations.forEach((n, location) -> assertArrayEquals(HdfsWriter.record(n, 20_000), bytes(log.read(location))));
        }
    }

    @Test
    void aNameNodeThatDiesUnderAWriterKeepsNoAppendWaiting() throws Exception {
        Map<Integer, RecordLocation> locations = new LinkedHashMap<>();
        LogOptions options = HdfsWriter.options(dir, LogOptions.Role.RECEIVERS, Map.of("ferrowal.test.timescale", "1"));
        try (Log log = Log.open(options.writeTimeout(Duration.ofSeconds(60)).rollingInterval(Duration.ofSeconds(1)))) {
            int i = 0;
            for (; i < 10; i++) {
                locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), 0));
            }
            cluster("kill", "nn");
            for (; i < 30; i++) {
                // No other segment is needed.
                locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), 0));
            }
            Thread starts = new Thread(() -> cluster("start"));
            starts.start();
            // A roll needs it: until it is there, writes fail, and a receiver tries again.
            long until = System.nanoTime() + BOUND.toNanos();
            for (; i < 60; i++) {
                while (!locations.containsKey(i)) {
                    try {
                        locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), i * 100L));
                    } catch (java.io.UncheckedIOException e) {
                        assertTrue(System.nanoTime() < until, e::toString);
                    }
                }
            }
            starts.join(BOUND.toMillis());
            int count = i;
            assertEquals(upTo(0, count), scanned(log));
            locations.forEach((n, location) -> assertArrayEquals(HdfsWriter.record(n, 1000), bytes(log.read(location))));
        }
    }

    @Test
    void callsThatANameNodeKeepsWaitingKeepNoAppendWaiting() throws Exception {
        try (Log log = Log.open(receivers()); Log other = Log.open(receivers())) {
            RecordLocation first = log.append(ByteBuffer.wrap(HdfsWriter.record(0, 1000)), 0);
            // The first sync of a block tells the name node of it.
            log.append(ByteBuffer.wrap(HdfsWriter.record(1, 1000)), 0);
            List<Thread> readers = new ArrayList<>();
            Set<Integer> read = java.util.concurrent.ConcurrentHashMap.newKeySet();
            cluster("pause", "nn");
            try {
                // More than there are threads for such calls.
                for (int n = 0; n < 80; n++) {
                    int number = n;
                    Thread reader = new Thread(() -> {
                        // A directory of its own: nothing of it is known yet, and all must be asked.
                        try (Log absent = Log.open(HdfsWriter.options(dir + number, LogOptions.Role.RECEIVERS))) {
                            assertThrows(LogException.class, () -> absent.read(first));
                            read.add(number);
                        }
                    });
                    reader.start();
                    readers.add(reader);
                }
                for (Thread reader : readers) {
                    reader.join(20);
                }
                assertTrue(readers.stream().allMatch(Thread::isAlive), "they wait for the name node");
                for (int i = 2; i < 50; i++) {
                    long began = System.nanoTime();
                    log.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), 0);
                    int number = i;
                    long took = (System.nanoTime() - began) / 1_000_000;
                    assertTrue(took < 10_000, () -> "record " + number + " took " + took + " ms");
                }
            } finally {
                cluster("resume", "nn");
            }
            for (Thread reader : readers) {
                reader.join(BOUND.toMillis());
            }
            assertEquals(80, read.size());
            assertEquals(upTo(0, 50), scanned(other));
        }
    }

    @Test
    void whatADeadExecutorLeftIsCleaned() throws Exception {
        Map<String, String> sooner = Map.of("ferrowal.test.timescale", HdfsWriter.SOONER);
        LogOptions options = HdfsWriter.options(dir, LogOptions.Role.RECEIVERS, sooner).cleanGrace(Duration.ZERO);
        org.apache.hadoop.fs.Path writers = new org.apache.hadoop.fs.Path(URI.create(dir).getPath(), "receivers");
        try (Child child = child("RECEIVERS", 0, 1000, HdfsWriter.SOONER)) {
            child.await(line -> line.startsWith("acknowledged 20"), BOUND);
            child.kill();
        }
        try (FileSystem system = system(); Log log = Log.open(options)) {
            org.apache.hadoop.fs.Path dead = system.listStatus(writers)[0].getPath();
            RecordLocation kept = log.append(ByteBuffer.wrap(HdfsWriter.record(7, 1000)), 1_000_000_000);
            long until = System.nanoTime() + BOUND.toNanos();
            while (system.exists(dead)) {
                assertTrue(System.nanoTime() < until, () -> dead + " is still there");
                log.clean(1_000_000, true);
                Thread.sleep(200);
            }
            assertEquals(List.of(7), scanned(log));
            assertArrayEquals(HdfsWriter.record(7, 1000), bytes(log.read(kept)));
        }
    }

    @Test
    void anExceededQuotaIsATypedErrorAndTheNextWriteAfterItIsRaisedSucceeds() throws Exception {
        LogOptions options = HdfsWriter.options(dir, LogOptions.Role.RECEIVERS, Map.of("ferrowal.test.timescale", "10",
            "dfs.blocksize", "1048576")).writeTimeout(Duration.ofSeconds(3));
        org.apache.hadoop.fs.Path path = new org.apache.hadoop.fs.Path(URI.create(dir).getPath());
        Map<Integer, RecordLocation> locations = new LinkedHashMap<>();
        try (FileSystem system = system(); Log log = Log.open(options.segmentSize(1 << 20))) {
            locations.put(0, log.append(ByteBuffer.wrap(HdfsWriter.record(0, 300_000)), 0));
            DistributedFileSystem hdfs = (DistributedFileSystem) system;
            hdfs.setQuota(path, HdfsConstants.QUOTA_DONT_SET, 12 << 20);
            int i = 1;
            StorageFullException full = null;
            while (full == null) {
                assertTrue(i < 100, "the quota has no effect");
                try {
                    locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 300_000)), 0));
                    i++;
                } catch (StorageFullException e) {
                    full = e;
                }
            }
            System.out.println("with a full quota: " + full.getMessage());
            assertThrows(StorageFullException.class, () -> log.append(ByteBuffer.wrap(HdfsWriter.record(999, 300_000)), 0));
            hdfs.setQuota(path, HdfsConstants.QUOTA_DONT_SET, HdfsConstants.QUOTA_RESET);
            // As a receiver does that tries again.
            locations.put(i, log.append(ByteBuffer.wrap(HdfsWriter.record(i, 300_000)), 0));
            int count = i + 1;
            assertEquals(upTo(0, count), scanned(log));
            locations.forEach((n, location) -> assertArrayEquals(HdfsWriter.record(n, 300_000), bytes(log.read(location))));
        }
    }

    @Test
    void aMarkIsRenewedByTheNameNodesClockAndNeverMadeAgain() throws Exception {
        org.apache.hadoop.fs.Path marks = new org.apache.hadoop.fs.Path(URI.create(dir).getPath(), "driver/alive");
        try (FileSystem system = system(); Log log = Log.open(driver())) {
            log.append(ByteBuffer.wrap(HdfsWriter.record(0, 1000)), 0);
            FileStatus mark = system.listStatus(marks)[0];
            long until = System.nanoTime() + BOUND.toNanos();
            while (system.getFileStatus(mark.getPath()).getModificationTime() < mark.getModificationTime() + 1000) {
                assertTrue(System.nanoTime() < until, "it is not renewed");
                Thread.sleep(50);
            }
            // A renewal that somebody's client had begun when it died.
            system.append(mark.getPath());
            long open = system.getFileStatus(mark.getPath()).getModificationTime();
            while (system.getFileStatus(mark.getPath()).getModificationTime() < open + 1000) {
                assertTrue(System.nanoTime() < until, "it is not renewed any more");
                Thread.sleep(50);
            }
            assertTrue(system.delete(mark.getPath(), false));
            while (true) {
                assertTrue(System.nanoTime() < until, "its absence is not noticed");
                try {
                    log.append(ByteBuffer.wrap(HdfsWriter.record(1, 1000)), 0);
                } catch (LogFencedException e) {
                    break;
                }
            }
            assertEquals(0, system.listStatus(marks).length);
        }
    }

    @Test
    void aGroupCostsLittleMoreThanABareWriteAndSync() throws IOException {
        int rounds = 300;
        int length = 16 << 10;
        byte[] record = HdfsWriter.record(1, length);
        long[] bare = new long[rounds];
        long[] logged = new long[rounds];
        try (FileSystem system = system(); Log log = Log.open(receivers());
             FSDataOutputStream out = system.create(new org.apache.hadoop.fs.Path(dir + "-bare"), false)) {
            for (int i = -50; i < rounds; i++) {
                long t0 = System.nanoTime();
                out.write(record);
                out.hsync();
                long t1 = System.nanoTime();
                log.append(ByteBuffer.wrap(record), 1);
                long t2 = System.nanoTime();
                if (i >= 0) {
                    bare[i] = t1 - t0;
                    logged[i] = t2 - t1;
                }
            }
        }
        java.util.Arrays.sort(bare);
        java.util.Arrays.sort(logged);
        double median = (double) logged[rounds / 2] / bare[rounds / 2];
        System.out.printf("16 KiB in HDFS, one at a time, %d rounds: bare write + hsync p50 %.2f ms, p99 %.2f ms;"
                + " ferrowal p50 %.2f ms, p99 %.2f ms; ratio of the medians %.2f%n", rounds, bare[rounds / 2] / 1e6,
            bare[rounds * 99 / 100] / 1e6, logged[rounds / 2] / 1e6, logged[rounds * 99 / 100] / 1e6, median);
        // The machine does other things as well; the bound of the benchmark is 1.3.
        assertTrue(median < 2, () -> "ratio " + median);
    }

    @Test
    void withoutHadoopTheJarSaysWhatIsMissing() {
        try (Child child = Child.plain(HdfsWriter.class, List.of(), uri + "/none", "DRIVER", "0", "10")) {
            String line = child.await(l -> l.contains("needs Hadoop's client"), BOUND);
            assertTrue(line.contains("IllegalArgumentException"), line);
            assertFalse(child.output().contains("acknowledged"));
        }
    }

    private static Set<Integer> missing(Set<Integer> acknowledged, List<Integer> found) {
        Set<Integer> missing = new HashSet<>(acknowledged);
        found.forEach(missing::remove);
        return missing;
    }

    /** What a child was answered; gives the number that comes next. */
    private static int note(Child child, Set<Integer> acknowledged) {
        int next = 0;
        for (String line : (Iterable<String>) child.output().lines()::iterator) {
            String[] words = line.split(" ");
            if (words.length == 2 && words[0].equals("acknowledged")) {
                acknowledged.add(Integer.valueOf(words[1]));
            }
            if (words.length == 2 && (words[0].equals("acknowledged") || words[0].equals("write"))) {
                next = Integer.parseInt(words[1]) + 1;
            }
        }
        return next;
    }

    private static void signal(Child child, String which) throws IOException, InterruptedException {
        assertEquals(0, new ProcessBuilder("kill", which, Long.toString(child.pid())).start().waitFor());
    }

    private Child child(String role, int first, int length, String... more) {
        Path jar = Path.of(System.getProperty("ferrowal.test.jar"));
        List<String> arguments = new ArrayList<>();
        arguments.add("-Djava.util.logging.SimpleFormatter.format=%4$.4s %5$s%n");
        arguments.add("-Dlog4j2.level=error");
        arguments.add("-cp");
        arguments.add(jar + ":" + System.getProperty("ferrowal.test.app") + ":"
            + System.getProperty("ferrowal.test.sparkHome") + "/jars/*");
        arguments.addAll(List.of(HdfsWriter.class.getName(), dir, role, Integer.toString(first), Integer.toString(length)));
        arguments.addAll(List.of(more));
        return new Child(arguments, new HashMap<>());
    }
}
