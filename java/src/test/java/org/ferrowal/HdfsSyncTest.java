package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/**
 * What three DataNodes sync, by their own count. {@code make check-homes} starts an HDFS for this alone: where DataNodes were
 * killed, not each block has three.
 */
class HdfsSyncTest {
    private static final Duration BOUND = Duration.ofSeconds(90);

    /** A group is on the devices of all three DataNodes when it is acknowledged; by the key it is in their memory only. */
    @Test
    void groupsAreSyncedToTheDevicesUnlessTheKeySaysOtherwise() throws Exception {
        String[] said = System.getProperty("ferrowal.test.store", "").trim().split(" +");
        assumeTrue(said[0].startsWith("hdfs:"), "a cluster is started by make check-hdfs");
        String dir = said[0] + "/" + Long.toHexString(System.nanoTime());
        int groups = 50;
        Map<String, String> keys = Map.of(HadoopRoot.HFLUSH_KEY, "true");
        try (Log synced = Log.open(HdfsWriter.options(dir + "/synced", LogOptions.Role.RECEIVERS));
                Log flushed = Log.open(HdfsWriter.options(dir + "/flushed", LogOptions.Role.RECEIVERS, keys))) {
            flushed.append(ByteBuffer.wrap(HdfsWriter.record(0, 1000)), 0);
            long before = syncsUpToNow(synced);
            for (int i = 1; i <= groups; i++) {
                flushed.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), 0);
            }
            long between = syncsUpToNow(synced);
            for (int i = 0; i < groups; i++) {
                synced.append(ByteBuffer.wrap(HdfsWriter.record(i, 1000)), 0);
            }
            long after = syncsUpToNow(synced);
            String counted = "syncs for " + groups + " groups: " + (between - before) + " with hflush, " + (after - between)
                + " without";
            System.out.println(counted);
            // Some are of what is asked here, and of files that are made meanwhile.
            assertTrue(between - before < groups, counted);
            assertTrue(after - between >= 3L * groups, counted);
        }
    }

    /** What the DataNodes have synced, by their own counts, which they take every ten seconds: what is synced here must show. */
    private static long syncsUpToNow(Log synced) throws Exception {
        long[] before = syncs();
        synced.append(ByteBuffer.wrap(HdfsWriter.record(0, 4)), 0);
        long until = System.nanoTime() + BOUND.toNanos();
        while (true) {
            long[] now = syncs();
            if (IntStream.range(0, now.length).allMatch(node -> now[node] > before[node])) {
                return LongStream.of(now).sum();
            }
            assertTrue(System.nanoTime() < until, () -> "syncs do not show: " + Arrays.toString(now));
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(100));
        }
    }

    private static long[] syncs() throws IOException {
        String ports = Files.readString(Path.of(System.getProperty("ferrowal.test.hdfs"), "ports"));
        String[] numbers = ports.replaceAll("[\\[\\] ]", "").split(",");
        long[] all = new long[3];
        for (int node = 0; node < all.length; node++) {
            URI jmx = URI.create("http://127.0.0.1:" + numbers[4 + 3 * node]
                + "/jmx?qry=Hadoop:service=DataNode,name=DataNodeActivity-*");
            try (InputStream in = jmx.toURL().openStream()) {
                String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
                Matcher count = Pattern.compile("\"FsyncCount\" *: *(\\d+)").matcher(text);
                assertTrue(count.find(), text);
                all[node] = Long.parseLong(count.group(1));
            }
        }
        return all;
    }
}
