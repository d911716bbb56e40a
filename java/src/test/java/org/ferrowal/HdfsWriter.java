package org.ferrowal;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;

/** A process that writes numbered records to HDFS until it is killed, or told that it may not. */
public final class HdfsWriter {
    /** Marks grow old sooner, by this factor: a driver's in 3 seconds, an executor's in a minute. */
    private static final String TIMESCALE = "10";
    /** An executor's in ten seconds, for tests that wait for that. */
    static final String SOONER = "60";

    private HdfsWriter() {
    }

    static LogOptions options(String dir, LogOptions.Role role) {
        return options(dir, role, Map.of("ferrowal.test.timescale", TIMESCALE));
    }

    /** With keys of Hadoop's, or of the tests. */
    static LogOptions options(String dir, LogOptions.Role role, Map<String, String> keys) {
        Map<String, String> all = new HashMap<>(keys);
        all.put("dfs.replication", "3");
        return LogOptions.at(dir, role).linger(Duration.ZERO).lockWait(Duration.ofSeconds(30)).store(all);
    }

    /** A record that says its number, and whose other bytes follow from it. */
    static byte[] record(int number, int length) {
        byte[] bytes = new byte[Math.max(4, length)];
        new Random(number).nextBytes(bytes);
        ByteBuffer.wrap(bytes).putInt(number);
        return bytes;
    }

    /** Directory, role, first number, length of the records, and perhaps how much sooner marks grow old. */
    public static void main(String[] args) {
        int length = Integer.parseInt(args[3]);
        Map<String, String> keys = Map.of("ferrowal.test.timescale", args.length > 4 ? args[4] : TIMESCALE);
        try (Log log = Log.open(options(args[0], LogOptions.Role.valueOf(args[1]), keys))) {
            // As Spark does after a crash: a driver that begins by writing begins anew.
            log.scan().close();
            for (int i = Integer.parseInt(args[2]);; i++) {
                System.out.println("write " + i);
                log.append(ByteBuffer.wrap(record(i, length)), i);
                System.out.println("acknowledged " + i);
            }
        } catch (RuntimeException e) {
            System.out.println("failed " + e);
        }
    }
}
