package org.ferrowal.spark;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.SparkConf;
import org.ferrowal.Log;
import org.ferrowal.LogOptions;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import scala.Tuple2;

/**
 * The {@code spark.ferrowal.*} keys: read, checked and explained here, and nowhere else.
 *
 * <p>Sizes and times are Spark's own strings. Spark restores its configuration from the checkpoint, so an operator who
 * must change something writes {@code ferrowal.properties} into the log's directory: its entries replace those of the
 * configuration, except {@code spark.ferrowal.dir}.
 */
final class SparkOptions {
    private static final Logger LOG = LoggerFactory.getLogger("org.ferrowal");

    private static final String PREFIX = "spark.ferrowal.";
    private static final String DIR = PREFIX + "dir";
    private static final String RECOVERY = PREFIX + "recovery";
    private static final String DURABILITY = PREFIX + "durability";
    private static final String BARRIER = PREFIX + "barrier";
    private static final String CLEAN_GRACE = PREFIX + "clean.grace";
    private static final String SEGMENT_SIZE = PREFIX + "segment.size";
    private static final String MEMORY = PREFIX + "memory";
    private static final String WRITE_TIMEOUT = PREFIX + "write.timeout";
    private static final String LOCK_WAIT = PREFIX + "lock.wait";
    private static final String ALLOW_NETWORK = PREFIX + "lock.allowNetwork";
    private static final String LINGER = PREFIX + "linger";
    private static final String SPIN = PREFIX + "spin";
    private static final String IDLE_MARK = PREFIX + "idleMark";
    private static final String TAKEOVER = PREFIX + "driver.takeover";
    private static final String OBJECT_LINGER = PREFIX + "object.linger";
    private static final String OBJECT_MAX_PUT = PREFIX + "object.maxPut";
    private static final String CODEC = PREFIX + "compression.codec";
    private static final String ZSTD_LEVEL = PREFIX + "compression.zstd.level";
    private static final String ENCRYPTION = PREFIX + "encryption.";
    private static final String KEY = ENCRYPTION + "key";
    private static final String OLD_KEYS = ENCRYPTION + "oldKeys";
    private static final String ENCRYPTION_REQUIRED = ENCRYPTION + "required";
    private static final String HDFS_SYNC = PREFIX + "hdfs.sync";
    private static final String SUMMARY = PREFIX + "log.summary";
    private static final String METRICS_INTERVAL = PREFIX + "metrics.interval";
    private static final List<String> KEYS = List.of(DIR, RECOVERY, DURABILITY, BARRIER, CLEAN_GRACE, SEGMENT_SIZE, MEMORY, WRITE_TIMEOUT,
        LOCK_WAIT, ALLOW_NETWORK, LINGER, IDLE_MARK, SPIN, TAKEOVER, OBJECT_LINGER, OBJECT_MAX_PUT, CODEC, ZSTD_LEVEL,
        KEY, OLD_KEYS, ENCRYPTION_REQUIRED, SUMMARY, METRICS_INTERVAL, HDFS_SYNC);

    /** Where Spark has the keys of Hadoop's clients. Those of the stores that we reach ourselves are handed on. */
    private static final String HADOOP = "spark.hadoop.";
    private static final List<String> STORES = List.of("fs.s3a.", "fs.gs.", "fs.azure.");

    /** Before the alias of a key in a provider of Hadoop's. */
    private static final String CREDENTIAL = "credential:";

    /** Overrides. */
    private static final String FILE = "ferrowal.properties";

    private static final String JAVA_SERIALIZER = "org.apache.spark.serializer.JavaSerializer";
    private static final String KRYO_SERIALIZER = "org.apache.spark.serializer.KryoSerializer";
    /** The header of an object stream, and no object. */
    private static final byte[] EMPTY_JAVA_STREAM = {(byte) 0xAC, (byte) 0xED, 0, 5};

    /** In milliseconds, as Spark's times are read. */
    private static final long SECOND = 1000;
    private static final long YEAR = Duration.ofDays(365).toMillis();

    /** What was already said in this process: Spark makes an instance for every partition that it reads back. */
    private static final Set<String> SAID = ConcurrentHashMap.newKeySet();

    private final LogOptions log;
    private final String serializer;

    private SparkOptions(LogOptions log, String serializer) {
        this.log = log;
        this.serializer = serializer;
    }

    /**
     * Reads and checks the keys, with the operator's overrides.
     *
     * @throws IllegalArgumentException saying what is wrong and what to do
     */
    static SparkOptions of(SparkConf conf, LogOptions.Role role) {
        for (Tuple2<String, String> entry : conf.getAllWithPrefix(PREFIX)) {
            known(PREFIX + entry._1(), "");
        }
        String dir = directory(conf);
        Map<String, String> store = store(conf, dir);
        SparkConf merged = override(conf, dir, store);
        String side = role == LogOptions.Role.DRIVER ? "driver" : "receiver";
        LogOptions options = LogOptions.at(dir, role)
            .store(withSync(store, merged))
            .takeover(choice(merged, TAKEOVER, LogOptions.Takeover.REFUSE))
            .groupLinger(time(merged, OBJECT_LINGER, "0s", 0, SECOND, "0s to 1s"))
            .mostPut(size(merged, OBJECT_MAX_PUT, "64m", 8L << 20, "8m", 1L << 30, "1g"))
            .writeAfterClose(true)
            .recovery(choice(merged, RECOVERY, LogOptions.Recovery.DEFAULT))
            .durability(choice(merged, DURABILITY, LogOptions.Durability.DEVICE))
            .barrier(choice(merged, BARRIER, LogOptions.Barrier.AUTO))
            .cleanGrace(time(merged, CLEAN_GRACE, "10s", 0, Long.MAX_VALUE, "0s or more"))
            .segmentSize(size(merged, SEGMENT_SIZE, "64m", 1L << 20, "1m", 1L << 40, "1t"))
            .memory(size(merged, MEMORY, "64m", 16L << 20, "16m", 1L << 40, "1t"))
            .writeTimeout(time(merged, WRITE_TIMEOUT, role == LogOptions.Role.DRIVER ? "3s" : "20s"))
            .lockWait(time(merged, LOCK_WAIT, "30s"))
            .allowNetworkLock(flag(merged, ALLOW_NETWORK, false))
            .spin(flag(merged, SPIN, true))
            .linger(time(merged, LINGER, "10s"))
            .idleMark(time(merged, IDLE_MARK, "1s"))
            .summary(summary(merged))
            // Spark's own log takes 0, and what never ends; here there is a shortest one, and a longest.
            .rollingInterval(Duration.ofSeconds(Math.max(1, Math.min(YEAR / SECOND,
                whole(conf, "spark.streaming." + side + ".writeAheadLog.rollingIntervalSecs", 60, 0, Integer.MAX_VALUE)))))
            .maxFailures(whole(conf, "spark.streaming." + side + ".writeAheadLog.maxFailures", 3, 1, Integer.MAX_VALUE));
        // The plugin's, which only warns: said here, a bad value stops the start like any other.
        metricsInterval(merged);
        options = encryption(merged, options.compression(choice(merged, CODEC, LogOptions.Compression.NONE))
            .zstdLevel(whole(merged, ZSTD_LEVEL, 1, -7, 22)));
        warn(conf, dir);
        return new SparkOptions(options, conf.get("spark.serializer", JAVA_SERIALIZER));
    }

    /**
     * How often executors tell the driver their metrics: {@code spark.ferrowal.metrics.interval}, a second at least. What is
     * longer than a year, which is as good as never, is a year.
     */
    static Duration metricsInterval(SparkConf conf) {
        Duration every = time(conf, METRICS_INTERVAL, "10s", SECOND, Long.MAX_VALUE, "1s or more");
        Duration year = Duration.ofMillis(YEAR);
        return every.compareTo(year) > 0 ? year : every;
    }

    /** Zero is never. */
    private static Duration summary(SparkConf conf) {
        String allowed = "0s, or 1s to 365d";
        Duration every = time(conf, SUMMARY, "0s", 0, YEAR, allowed);
        return every.isZero() ? every : time(conf, SUMMARY, "0s", SECOND, YEAR, allowed);
    }

    LogOptions log() {
        return log;
    }

    String serializer() {
        return serializer;
    }

    /** The bytes of a block without records, as {@code spark.serializer} would have written it; null if not known. */
    byte[] emptyBlock() {
        switch (serializer) {
            case JAVA_SERIALIZER:
                return EMPTY_JAVA_STREAM.clone();
            case KRYO_SERIALIZER:
                return new byte[0];
            default:
                return null;
        }
    }

    /** Refuses a key that does not exist. {@code where} says where it was found. */
    private static void known(String key, String where) {
        if (KEYS.contains(key)) {
            return;
        }
        String nearest = KEYS.get(0);
        for (String candidate : KEYS) {
            if (distance(key, candidate) < distance(key, nearest)) {
                nearest = candidate;
            }
        }
        throw new IllegalArgumentException("unknown key " + key + where + ": did you mean " + nearest + "?");
    }

    /** What Spark was told for Hadoop's clients of object stores. Holds secrets: never logged. */
    private static Map<String, String> store(SparkConf conf, String dir) {
        Map<String, String> store = new TreeMap<>();
        // Of HDFS the configuration is Hadoop's own, with everything that Spark was told for it.
        boolean all = dir.regionMatches(true, 0, "hdfs:", 0, 5);
        for (Tuple2<String, String> entry : conf.getAllWithPrefix(HADOOP)) {
            if (all || STORES.stream().anyMatch(entry._1()::startsWith)) {
                store.put(entry._1(), entry._2());
            }
        }
        return store;
    }

    /** The options with the keys that the configuration names. */
    private static LogOptions encryption(SparkConf conf, LogOptions options) {
        List<String> old = new ArrayList<>();
        for (String source : conf.get(OLD_KEYS, "").split(",")) {
            if (!source.isBlank()) {
                old.add(key(conf, OLD_KEYS, source.trim()));
            }
        }
        String[] older = old.toArray(new String[0]);
        String current = conf.get(KEY, "").trim();
        boolean required = flag(conf, ENCRYPTION_REQUIRED, false);
        if (required && current.isEmpty()) {
            throw new IllegalArgumentException(ENCRYPTION_REQUIRED + " is true, and there is no key to write with: name"
                + " where it is in " + KEY);
        }
        return (current.isEmpty() ? options.decryption(older)
            : options.encryption(key(conf, KEY, current), older)).encryptionRequired(required);
    }

    /**
     * Where a key is, as {@link LogOptions#encryption} takes it. The configuration is shown by Spark and kept in
     * checkpoints, so it may not hold the key itself, and what does not say where a key is, is not repeated.
     */
    private static String key(SparkConf conf, String name, String source) {
        if (names(source)) {
            return source.startsWith(CREDENTIAL)
                ? Credentials.key(conf, name, source.substring(CREDENTIAL.length())) : source;
        }
        throw new IllegalArgumentException(name + " must say where the key is, and not the key: file:/path, env:NAME or"
            + " credential:alias");
    }

    /** Whether a source says where a key is, and has none pasted behind its prefix. */
    private static boolean names(String source) {
        for (String prefix : List.of("file:", "env:", CREDENTIAL)) {
            if (source.startsWith(prefix)) {
                return !source.substring(prefix.length()).matches("\\s*[0-9a-fA-F]{32,}\\s*");
            }
        }
        return false;
    }

    /** A value as lines of the log may hold it: of keys, only those that are named by where they are. */
    private static String shown(String key, String value) {
        if (!key.equals(KEY) && !key.equals(OLD_KEYS) || value.equals("nothing")) {
            return value;
        }
        List<String> sources = new ArrayList<>();
        for (String source : value.split(",")) {
            sources.add(source.isBlank() || names(source.trim()) ? source : "(not shown)");
        }
        return String.join(",", sources);
    }

    /** What makes a group durable in HDFS. */
    private enum Sync { HSYNC, HFLUSH }

    private static Map<String, String> withSync(Map<String, String> store, SparkConf conf) {
        if (choice(conf, HDFS_SYNC, Sync.HSYNC) == Sync.HSYNC) {
            return store;
        }
        Map<String, String> more = new TreeMap<>(store);
        more.put("ferrowal.hadoop.hflush", "true");
        return more;
    }

    /** A normalized path of this machine, or a URI as it is written: the native side checks it. */
    private static String directory(SparkConf conf) {
        String value = conf.get(DIR, "").trim();
        if (value.isEmpty()) {
            throw new IllegalArgumentException(DIR + " is not set: set it to a directory that belongs to this"
                + " application alone, for example --conf " + DIR + "=file:///var/lib/ferrowal/my-app");
        }
        if (value.startsWith("/")) {
            return path(value, value);
        }
        int colon = value.indexOf(':');
        if (colon <= 0) {
            throw new IllegalArgumentException(DIR + "=" + value + " is a relative path: give an absolute one, or a"
                + " file: URI such as file:///var/lib/ferrowal/my-app");
        }
        String scheme = value.substring(0, colon).toLowerCase(Locale.ROOT);
        if (!scheme.equals("file")) {
            return value;
        }
        try {
            URI uri = new URI(value);
            String host = uri.getHost();
            String path = uri.getPath();
            if (path != null && path.startsWith("/") && (uri.getAuthority() == null || "localhost".equals(host))
                && uri.getQuery() == null && uri.getFragment() == null) {
                return path(value, path);
            }
        } catch (URISyntaxException e) {
            throw new IllegalArgumentException(DIR + "=" + value + " is not a valid URI (" + e.getReason()
                + "): give an absolute path, or a file: URI such as file:///var/lib/ferrowal/my-app", e);
        }
        throw new IllegalArgumentException(DIR + "=" + value + " does not name a directory of this machine: give an"
            + " absolute path, or a file: URI such as file:///var/lib/ferrowal/my-app");
    }

    /** A path, normalized. {@code value} is what names it. */
    private static String path(String value, String path) {
        if (path.indexOf('\0') >= 0) {
            throw new IllegalArgumentException(DIR + "=" + value.replace("\0", "\\0")
                + " has a NUL character in it, which no path may have");
        }
        Path normal = Paths.get(path).normalize();
        if (normal.getNameCount() == 0) {
            throw new IllegalArgumentException(DIR + "=" + value + " is the root directory: give each application one of its"
                + " own, such as file:///var/lib/ferrowal/my-app");
        }
        return normal.toString();
    }

    /** The configuration with the entries of the directory's {@code ferrowal.properties} over it. */
    private static SparkConf override(SparkConf conf, String dir, Map<String, String> store) {
        String file = dir.endsWith("/") ? dir + FILE : dir + "/" + FILE;
        Map<String, String> entries = Log.overrides(dir, store);
        if (entries.isEmpty()) {
            return conf;
        }
        SparkConf merged = conf.clone();
        // Who can write the directory may forge records, and this file: it has no say in which ones are believed.
        boolean required = flag(conf, ENCRYPTION_REQUIRED, false);
        entries.forEach((key, value) -> {
            known(key, " in " + file);
            if (key.equals(DIR)) {
                throw new IllegalArgumentException(file + " must not set " + DIR
                    + ": the directory is the log's identity");
            }
            if (required && key.startsWith(ENCRYPTION)) {
                throw new IllegalArgumentException(file + " must not set " + key + " where the application's configuration"
                    + " sets " + ENCRYPTION_REQUIRED + "=true: whoever can write there could make records that count");
            }
            if (once("override " + dir + key + value)) {
                LOG.warn("{} sets {}={} (the application's configuration says {})", file, key, shown(key, value),
                    shown(key, conf.get(key, "nothing")));
            }
            merged.set(key, value);
        });
        return merged;
    }

    /** One of the values of an enum, in lower case. */
    private static <T extends Enum<T>> T choice(SparkConf conf, String key, T standard) {
        String value = conf.get(key, "").trim();
        if (value.isEmpty()) {
            return standard;
        }
        T[] all = standard.getDeclaringClass().getEnumConstants();
        StringBuilder names = new StringBuilder();
        for (T candidate : all) {
            String name = candidate.name().toLowerCase(Locale.ROOT);
            if (name.equals(value)) {
                return candidate;
            }
            names.append(names.length() == 0 ? "" : candidate == all[all.length - 1] ? " or " : ", ").append(name);
        }
        throw new IllegalArgumentException(key + "=" + value + ": must be " + names);
    }

    private static Duration time(SparkConf conf, String key, String standard) {
        return time(conf, key, standard, 0, YEAR, "0s to 365d");
    }

    /** Least and most in milliseconds. */
    private static Duration time(SparkConf conf, String key, String standard, long least, long most, String allowed) {
        long millis;
        try {
            millis = conf.getTimeAsMs(key, standard);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(key + "=" + conf.get(key, standard)
                + ": must be a time such as 500ms, 10s or 5min", e);
        }
        if (millis < least || millis > most) {
            throw new IllegalArgumentException(key + "=" + conf.get(key, standard) + ": must be " + allowed);
        }
        return Duration.ofMillis(millis);
    }

    private static long size(SparkConf conf, String key, String standard, long least, String leastText, long most,
                             String mostText) {
        long bytes;
        try {
            bytes = conf.getSizeAsBytes(key, standard);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(key + "=" + conf.get(key, standard)
                + ": must be a size such as 64m or 1g", e);
        }
        if (bytes < least || bytes > most) {
            throw new IllegalArgumentException(key + "=" + conf.get(key, standard) + ": must be " + leastText + " to "
                + mostText);
        }
        return bytes;
    }

    private static boolean flag(SparkConf conf, String key, boolean standard) {
        String value = conf.get(key, Boolean.toString(standard));
        switch (value) {
            case "true":
                return true;
            case "false":
                return false;
            default:
                throw new IllegalArgumentException(key + "=" + value + ": must be true or false");
        }
    }

    private static int whole(SparkConf conf, String key, int standard, int least, int most) {
        String value = conf.get(key, Integer.toString(standard)).trim();
        NumberFormatException none = null;
        try {
            int number = Integer.parseInt(value);
            if (number >= least && number <= most) {
                return number;
            }
        } catch (NumberFormatException e) {
            none = e;
        }
        throw new IllegalArgumentException(key + "=" + value + ": must be a whole number from " + least + " to " + most, none);
    }

    /** Says what works now and will not last. */
    private static void warn(SparkConf conf, String dir) {
        if (!dir.startsWith("/") || !once("place " + dir)) {
            return;
        }
        String type = volume(Paths.get(dir));
        if (type.equals("tmpfs") || type.equals("ramfs") || type.equals("overlay")) {
            LOG.warn("{}={} lies on {}, whose contents go with the machine, container or pod: the log does not survive"
                + " a restart there", DIR, dir, type);
        }
        String master = conf.get("spark.master", "local");
        if (!master.equals("local") && !master.startsWith("local[") && !master.startsWith("local-cluster[")) {
            LOG.warn("{}={} is a directory of each machine, and the master is {}: unless it is a file system that all"
                + " machines share, a block cannot be read back on another machine than the one that received it", DIR,
                dir, master);
        }
    }

    /** The type of the file system that holds, or would hold, a directory; empty where that cannot be told. */
    private static String volume(Path dir) {
        Path there = dir;
        while (there != null && !Files.exists(there)) {
            there = there.getParent();
        }
        try {
            return there == null ? "" : Files.getFileStore(there).type();
        } catch (IOException e) {
            // Only a warning hangs on it.
            LOG.debug("cannot tell the file system of {}", there, e);
            return "";
        }
    }

    private static boolean once(String what) {
        return SAID.add(what);
    }

    /** Levenshtein's: how many characters must be changed, added or removed. */
    private static int distance(String a, String b) {
        int[] row = new int[b.length() + 1];
        for (int j = 0; j <= b.length(); j++) {
            row[j] = j;
        }
        for (int i = 1; i <= a.length(); i++) {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                int changed = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.min(changed, 1 + Math.min(row[j], row[j - 1]));
            }
        }
        return row[b.length()];
    }
}
