package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.security.alias.CredentialProvider;
import org.apache.hadoop.security.alias.CredentialProviderFactory;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.LogOptions;
import org.ferrowal.MissingKeyException;
import org.ferrowal.UnauthenticatedRecordException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SparkOptionsTest {
    @TempDir
    private Path temp;

    private SparkConf conf() {
        return new SparkConf(false).set("spark.ferrowal.dir", temp.resolve("log").toString());
    }

    /** The message with which both classes refuse a configuration. */
    private String refused(SparkConf conf) {
        String driver = assertThrows(IllegalArgumentException.class, () -> new DriverWriteAheadLog(conf)).getMessage();
        String receiver = assertThrows(IllegalArgumentException.class, () -> new ReceiverWriteAheadLog(conf)).getMessage();
        assertEquals(driver, receiver);
        assertFalse(Files.exists(temp.resolve("log/driver")));
        return driver;
    }

    private String refused(String key, String value) {
        return refused(conf().set(key, value));
    }

    private Path overrides(String text) throws IOException {
        Path file = Files.createDirectories(temp.resolve("log")).resolve("ferrowal.properties");
        return Files.writeString(file, text);
    }

    @Test
    void constructorsCreateNothing() {
        new ReceiverWriteAheadLog(conf()).close();
        new DriverWriteAheadLog(conf()).close();
        assertFalse(Files.exists(temp.resolve("log")));
    }

    @Test
    void theDirectoryIsNeeded() {
        assertEquals("spark.ferrowal.dir is not set: set it to a directory that belongs to this application alone, for"
            + " example --conf spark.ferrowal.dir=file:///var/lib/ferrowal/my-app", refused(new SparkConf(false)));
    }

    @Test
    void theDirectoryIsAPathOrAFileUri() {
        assertEquals("spark.ferrowal.dir=logs/app is a relative path: give an absolute one, or a file: URI such as"
            + " file:///var/lib/ferrowal/my-app", refused("spark.ferrowal.dir", "logs/app"));
        assertEquals("ftp: is not a home for a log: a path, file:, hdfs:, s3a:, s3:, gs: or abfss: are",
            refused("spark.ferrowal.dir", "ftp://host/logs"));
        assertEquals("s3a://bucket names no directory: give each application one of its own, such as"
            + " s3a://bucket/my-app", refused("spark.ferrowal.dir", "s3a://bucket"));
        assertEquals("spark.ferrowal.dir=file://host/logs does not name a directory of this machine: give an absolute"
            + " path, or a file: URI such as file:///var/lib/ferrowal/my-app",
            refused("spark.ferrowal.dir", "file://host/logs"));
        assertEquals("spark.ferrowal.dir=file:///a b is not a valid URI (Illegal character in path): give an absolute"
            + " path, or a file: URI such as file:///var/lib/ferrowal/my-app",
            refused("spark.ferrowal.dir", "file:///a b"));
        for (String dir : List.of("/", "//", "/a/..", "file:///", "file:/.")) {
            assertEquals("spark.ferrowal.dir=" + dir + " is the root directory: give each application one of its own, such as"
                + " file:///var/lib/ferrowal/my-app", refused("spark.ferrowal.dir", dir));
        }
        assertEquals("spark.ferrowal.dir=/a\\0b has a NUL character in it, which no path may have",
            refused("spark.ferrowal.dir", "/a\0b"));
        assertEquals("spark.ferrowal.dir=file:///a%00b has a NUL character in it, which no path may have",
            refused("spark.ferrowal.dir", "file:///a%00b"));
        assertEquals("the s3a: location has a NUL character in it: take it out",
            refused("spark.ferrowal.dir", "s3a://bucket/a\0b"));
        for (String dir : new String[] {"/a/b", "/a/b/", "file:/a/b", "file:///a/b/", "file://localhost/a/b", "/a/c/../b"}) {
            SparkConf conf = conf().set("spark.ferrowal.dir", dir);
            assertEquals("/a/b", SparkOptions.of(conf, LogOptions.Role.DRIVER).log().dir(), dir);
        }
    }

    @Test
    void anUnknownKeyNamesTheNearest() {
        assertEquals("unknown key spark.ferrowal.clean.grase: did you mean spark.ferrowal.clean.grace?",
            refused("spark.ferrowal.clean.grase", "1s"));
        assertEquals("unknown key spark.ferrowal.segmentSize: did you mean spark.ferrowal.segment.size?",
            refused("spark.ferrowal.segmentSize", "1m"));
    }

    @Test
    void badValuesSayWhatIsGood() {
        assertEquals("spark.ferrowal.recovery=lenient: must be strict, default or salvage",
            refused("spark.ferrowal.recovery", "lenient"));
        assertEquals("spark.ferrowal.durability=full: must be device or os", refused("spark.ferrowal.durability", "full"));
        assertEquals("spark.ferrowal.barrier=fsync: must be auto, fdatasync, direct or dsync",
            refused("spark.ferrowal.barrier", "fsync"));
        assertEquals("spark.ferrowal.clean.grace=soon: must be a time such as 500ms, 10s or 5min",
            refused("spark.ferrowal.clean.grace", "soon"));
        assertEquals("spark.ferrowal.clean.grace=-1s: must be 0s or more", refused("spark.ferrowal.clean.grace", "-1s"));
        assertEquals("spark.ferrowal.linger=-1s: must be 0s to 365d", refused("spark.ferrowal.linger", "-1s"));
        assertEquals("spark.ferrowal.segment.size=big: must be a size such as 64m or 1g",
            refused("spark.ferrowal.segment.size", "big"));
        assertEquals("spark.ferrowal.segment.size=512k: must be 1m to 1t",
            refused("spark.ferrowal.segment.size", "512k"));
        assertEquals("spark.ferrowal.memory=1m: must be 16m to 1t", refused("spark.ferrowal.memory", "1m"));
        assertEquals("spark.ferrowal.spin=no: must be true or false", refused("spark.ferrowal.spin", "no"));
        assertEquals("spark.ferrowal.lock.allowNetwork=yes: must be true or false",
            refused("spark.ferrowal.lock.allowNetwork", "yes"));
        assertEquals("spark.ferrowal.metrics.interval=10ms: must be 1s or more",
            refused("spark.ferrowal.metrics.interval", "10ms"));
        for (String value : List.of("20ms", "366d")) {
            assertEquals("spark.ferrowal.log.summary=" + value + ": must be 0s, or 1s to 365d",
                refused("spark.ferrowal.log.summary", value));
        }
        assertEquals("spark.ferrowal.object.linger=1001ms: must be 0s to 1s",
            refused("spark.ferrowal.object.linger", "1001ms"));
        for (String key : List.of("write.timeout", "lock.wait", "linger", "idleMark")) {
            assertEquals("spark.ferrowal." + key + "=366d: must be 0s to 365d", refused("spark.ferrowal." + key, "366d"));
        }
        assertEquals(Duration.ofDays(365),
            SparkOptions.metricsInterval(conf().set("spark.ferrowal.metrics.interval", "3660d")));
        assertEquals("spark.ferrowal.compression.zstd.level=23: must be a whole number from -7 to 22",
            refused("spark.ferrowal.compression.zstd.level", "23"));
    }

    @Test
    void sparksOwnKeysAreHonoured() {
        SparkConf conf = conf().set("spark.streaming.driver.writeAheadLog.maxFailures", "5")
            .set("spark.streaming.driver.writeAheadLog.rollingIntervalSecs", "7");
        String driver = SparkOptions.of(conf, LogOptions.Role.DRIVER).log().toString();
        assertTrue(driver.contains("maxFailures=5, rollingInterval=7000"), driver);
        String receivers = SparkOptions.of(conf, LogOptions.Role.RECEIVERS).log().toString();
        assertTrue(receivers.contains("maxFailures=3, rollingInterval=60000"), receivers);
        conf.set("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs", "0");
        conf.set("spark.ferrowal.log.summary", "2min");
        assertTrue(SparkOptions.of(conf, LogOptions.Role.DRIVER).log().toString().contains("summary=120000,"));
        String shortest = SparkOptions.of(conf, LogOptions.Role.RECEIVERS).log().toString();
        assertTrue(shortest.contains("rollingInterval=1000,"), shortest);
        conf.set("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs", "-1");
        assertEquals("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs=-1: must be a whole number from 0 to"
            + " 2147483647", assertThrows(IllegalArgumentException.class, () -> new ReceiverWriteAheadLog(conf)).getMessage());
        // What says never to Spark's own log is a year.
        conf.set("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs", "2147483647");
        String longest = SparkOptions.of(conf, LogOptions.Role.RECEIVERS).log().toString();
        assertTrue(longest.contains("rollingInterval=31536000000,"), longest);
        for (String number : List.of("0", "3000000000")) {
            conf.set("spark.streaming.driver.writeAheadLog.maxFailures", number);
            assertEquals("spark.streaming.driver.writeAheadLog.maxFailures=" + number + ": must be a whole number from 1 to"
                + " 2147483647", assertThrows(IllegalArgumentException.class, () -> new DriverWriteAheadLog(conf)).getMessage());
        }
    }

    @Test
    void theDefaultsAreThoseOfTheManual() {
        assertEquals("LogOptions[dir=" + temp.resolve("log") + ", role=driver, recovery=default, durability=device,"
            + " barrier=auto, segmentSize=67108864, memory=67108864, maxFailures=3, rollingInterval=60000, writeTimeout=3000, cleanGrace=10000,"
            + " lockWait=30000, linger=10000, idleMark=1000, takeover=refuse, groupLinger=0, mostPut=67108864, compression=none, zstdLevel=1, encrypts=false, encryptionRequired=false, summary=0, spin=true, allowNetworkLock=false, store=[]]",
            SparkOptions.of(conf(), LogOptions.Role.DRIVER).log().toString());
        assertTrue(SparkOptions.of(conf(), LogOptions.Role.RECEIVERS).log().toString().contains("writeTimeout=20000"));
    }

    @Test
    void theFileOverridesPolicies() throws IOException {
        overrides("spark.ferrowal.recovery=salvage\nspark.ferrowal.clean.grace = 3s\n");
        SparkConf conf = conf().set("spark.ferrowal.recovery", "strict");
        LogOptions options = SparkOptions.of(conf, LogOptions.Role.RECEIVERS).log();
        assertEquals(LogOptions.Recovery.SALVAGE, options.recovery());
        assertTrue(options.toString().contains("cleanGrace=3000"));
    }

    @Test
    void theFileIsCheckedAsWell() throws IOException {
        Path file = overrides("spark.ferrowal.recovry=salvage\n");
        assertEquals("unknown key spark.ferrowal.recovry in " + file + ": did you mean spark.ferrowal.recovery?",
            refused(conf()));
        overrides("spark.ferrowal.dir=/elsewhere\n");
        assertEquals(file + " must not set spark.ferrowal.dir: the directory is the log's identity", refused(conf()));
        overrides("spark.ferrowal.recovery=\\u00zz\n");
        assertEquals(file + " is not a valid properties file: Malformed \\uxxxx encoding.", refused(conf()));
    }

    @Test
    void compressionIsNamedAsSparkNamesIt() {
        assertEquals("spark.ferrowal.compression.codec=snappy: must be none, lz4 or zstd",
            refused("spark.ferrowal.compression.codec", "snappy"));
        assertEquals("spark.ferrowal.compression.zstd.level=30: must be a whole number from -7 to 22",
            refused("spark.ferrowal.compression.zstd.level", "30"));
        SparkConf conf = conf().set("spark.ferrowal.compression.codec", "zstd").set("spark.ferrowal.compression.zstd.level", "5");
        String options = SparkOptions.of(conf, LogOptions.Role.RECEIVERS).log().toString();
        assertTrue(options.contains("compression=zstd, zstdLevel=5"), options);
    }

    private static final String HEX = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    @Test
    void aKeyIsNamedByWhereItIs() {
        for (String wrong : new String[] {HEX, "hex:" + HEX, "env:" + HEX, "file:" + HEX, "credential:" + HEX.substring(32)}) {
            assertEquals("spark.ferrowal.encryption.key must say where the key is, and not the key: file:/path, env:NAME or"
                + " credential:alias", refused("spark.ferrowal.encryption.key", wrong));
        }
        assertEquals("env:FERROWAL_NO_SUCH_KEY: there is no such environment variable",
            refused("spark.ferrowal.encryption.oldKeys", "env:FERROWAL_NO_SUCH_KEY"));
    }

    /** Overrides are logged before they are checked: a key that was put there by mistake must not be. */
    @Test
    void aKeyThatIsPutIntoTheFileIsNotLogged() throws IOException {
        // Of this run alone: the log is a file that runs share.
        String secret = HEX.substring(32) + UUID.randomUUID().toString().replace("-", "");
        overrides("spark.ferrowal.encryption.key=" + secret + "\nspark.ferrowal.encryption.oldKeys=file:/old.key,hex:" + secret
            + "\nspark.ferrowal.recovery=salvage\n");
        for (SparkConf conf : List.of(conf(), conf().set("spark.ferrowal.encryption.key", secret))) {
            assertFalse(refused(conf).contains(secret));
        }
        Path log = Path.of(System.getProperty("ferrowal.test.work"), System.getProperty("ferrowal.test.log", "tests.log"));
        String said = Files.readString(log);
        String file = temp.resolve("log/ferrowal.properties").toString();
        assertTrue(said.contains(file + " sets spark.ferrowal.recovery=salvage"), "overrides are logged here");
        assertTrue(said.contains(file + " sets spark.ferrowal.encryption.oldKeys=file:/old.key,(not shown)"), "in part");
        assertFalse(said.contains(secret));
    }

    @Test
    void encryptionThatIsRequiredWantsAKeyAndRefusesWhatIsPlain() throws IOException {
        assertEquals("spark.ferrowal.encryption.required=yes: must be true or false",
            refused("spark.ferrowal.encryption.required", "yes"));
        assertEquals("spark.ferrowal.encryption.required is true, and there is no key to write with: name where it is in"
            + " spark.ferrowal.encryption.key", refused("spark.ferrowal.encryption.required", "true"));
        WriteAheadLogRecordHandle handle;
        ReceiverWriteAheadLog plain = new ReceiverWriteAheadLog(conf());
        try {
            handle = plain.write(ByteBuffer.wrap("the record".getBytes(StandardCharsets.UTF_8)), 1);
        } finally {
            plain.close();
        }
        Path key = Files.writeString(temp.resolve("key"), HEX);
        SparkConf conf = conf().set("spark.ferrowal.encryption.key", "file:" + key)
            .set("spark.ferrowal.encryption.required", "true").set("spark.ferrowal.recovery", "salvage");
        ReceiverWriteAheadLog log = new ReceiverWriteAheadLog(conf);
        try {
            assertThrows(UnauthenticatedRecordException.class, () -> log.read(handle), "no empty block in its place");
        } finally {
            log.close();
        }
    }

    /** Who can write the directory can forge records and the file alike. */
    @Test
    void theFileHasNoSayInEncryptionThatTheConfigurationRequires() throws IOException {
        Path key = Files.writeString(temp.resolve("key"), HEX);
        SparkConf named = conf().set("spark.ferrowal.encryption.key", "file:" + key);
        SparkConf conf = named.clone().set("spark.ferrowal.encryption.required", "true");
        for (String entry : List.of("required=false", "key=env:OTHER", "oldKeys=env:OTHER")) {
            Path file = overrides("spark.ferrowal.encryption." + entry + "\n");
            assertEquals(file + " must not set spark.ferrowal.encryption." + entry.substring(0, entry.indexOf('='))
                + " where the application's configuration sets spark.ferrowal.encryption.required=true: whoever can write"
                + " there could make records that count", refused(conf));
        }
        overrides("spark.ferrowal.encryption.required=true\n");
        assertTrue(SparkOptions.of(named, LogOptions.Role.DRIVER).log().toString().contains("encryptionRequired=true"),
            "it may switch it on");
    }

    @Test
    void aKeyMayBeInHadoopsCredentialProvider() throws Exception {
        String provider = "localjceks://file" + temp.resolve("keys.jceks");
        Configuration hadoop = new Configuration();
        hadoop.set("hadoop.security.credential.provider.path", provider);
        CredentialProvider store = CredentialProviderFactory.getProviders(hadoop).get(0);
        store.createCredentialEntry("ferrowal.key", HEX.toCharArray());
        store.createCredentialEntry("no.key", "planted secret".toCharArray());
        store.flush();
        SparkConf conf = conf().set("spark.hadoop.hadoop.security.credential.provider.path", provider)
            .set("spark.ferrowal.encryption.key", "credential:ferrowal.key");
        WriteAheadLogRecordHandle handle;
        ReceiverWriteAheadLog log = new ReceiverWriteAheadLog(conf);
        try {
            handle = log.write(ByteBuffer.wrap("the record".getBytes(StandardCharsets.UTF_8)), 1);
        } finally {
            log.close();
        }
        Path key = Files.writeString(temp.resolve("key"), HEX);
        ReceiverWriteAheadLog again = new ReceiverWriteAheadLog(conf().set("spark.ferrowal.encryption.oldKeys", "file:" + key));
        try {
            assertEquals("the record", StandardCharsets.UTF_8.decode(again.read(handle)).toString());
        } finally {
            again.close();
        }
        ReceiverWriteAheadLog without = new ReceiverWriteAheadLog(conf());
        try {
            assertThrows(MissingKeyException.class, () -> without.read(handle));
            assertThrows(MissingKeyException.class, () -> without.readAll().hasNext());
        } finally {
            without.close();
        }
        assertTrue(refused(conf.clone().set("spark.ferrowal.encryption.key", "credential:other"))
            .startsWith("spark.ferrowal.encryption.key=credential:other: there is no such credential"));
        assertEquals("spark.ferrowal.encryption.key=credential:no.key: the credential must be 64 hex digits",
            refused(conf.clone().set("spark.ferrowal.encryption.key", "credential:no.key")));
    }
}
