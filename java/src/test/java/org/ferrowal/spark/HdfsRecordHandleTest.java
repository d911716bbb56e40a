package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InvalidObjectException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import org.apache.spark.streaming.util.WriteAheadLog;
import org.apache.spark.streaming.util.WriteAheadLogUtils;
import org.ferrowal.RecordLocation;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HdfsRecordHandleTest {
    /** Never to be changed, and the same under every Scala: handles of every release lie in drivers' logs. */
    private static final String GOLDEN = "aced0005737200286f72672e666572726f77616c2e737061726b2e486466735265636f726448616e646c6524466f726d0000"
        + "0000000000010200024c00096469726563746f72797400124c6a6176612f6c616e672f537472696e673b4c00086c6f636174"
        + "696f6e74001d4c6f72672f666572726f77616c2f5265636f72644c6f636174696f6e3b7870740017686466733a2f2f6e6e3a"
        + "383032302f617070732f6c6f677372001b6f72672e666572726f77616c2e5265636f72644c6f636174696f6e000000000000"
        + "00010200094900036372634900066c656e6774684a00076c6f67486967684a00066c6f674c6f774a00066f66667365744a00"
        + "077365676d656e7449000776657273696f6e4a000a777269746572486967684a00097772697465724c6f777870cafebabe00"
        + "00004d0123456789abcdef00000000000000020000000000001000000000000000000500000001fedcba9876543210000000"
        + "0000000004";

    private static final RecordLocation LOCATION = new RecordLocation(0x0123456789abcdefL, 2, 0xfedcba9876543210L, 4, 5,
        4096, 77, 0xcafebabe, 1);
    private static final HdfsRecordHandle HANDLE = new HdfsRecordHandle("hdfs://nn:8020/apps/log", LOCATION);

    private static byte[] serialize(Object object) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(object);
        }
        return bytes.toByteArray();
    }

    private static Object deserialize(byte[] bytes) throws IOException, ClassNotFoundException {
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes))) {
            return in.readObject();
        }
    }

    @Test
    void theSerializedFormIsPinned() throws Exception {
        assertEquals(GOLDEN, HexFormat.of().formatHex(serialize(HANDLE)));
        HdfsRecordHandle same = (HdfsRecordHandle) deserialize(HexFormat.of().parseHex(GOLDEN));
        assertEquals(HANDLE, same);
        assertEquals(HANDLE.hashCode(), same.hashCode());
        assertEquals(HANDLE.path(), same.path());
    }

    @Test
    void sparkIsToldOfTheSegmentsFile() {
        assertEquals("hdfs://nn:8020/apps/log/receivers/fedcba98-7654-3210-0000-000000000004/0000000000000005.seg",
            HANDLE.path());
        assertEquals(4096, HANDLE.offset());
        assertEquals(77, HANDLE.length());
        assertEquals("ferrowal:fedcba98/5@4096+77", HANDLE.toString());
        assertNotEquals(HANDLE, new FerrowalRecordHandle(LOCATION));
        assertNotEquals(HANDLE, new HdfsRecordHandle("hdfs://nn:8020/apps/log", new RecordLocation(1, 2, 3, 4, 5, 4096, 77,
            1, 1)));
    }

    @Test
    void aHostileDirectoryIsRefusedAsItIsRead() throws Exception {
        for (String hostile : new String[] {"file://nn:8020/apps/log", "hdfs://nn:8020/../x/log"}) {
            byte[] bytes = serialize(HANDLE);
            byte[] from = "hdfs://nn:8020/apps/log".getBytes(StandardCharsets.UTF_8);
            byte[] to = hostile.getBytes(StandardCharsets.UTF_8);
            assertEquals(from.length, to.length);
            for (int i = 0; i + from.length <= bytes.length; i++) {
                if (java.util.Arrays.equals(bytes, i, i + from.length, from, 0, from.length)) {
                    System.arraycopy(to, 0, bytes, i, to.length);
                }
            }
            assertThrows(InvalidObjectException.class, () -> deserialize(bytes), hostile);
        }
    }

    /** A directory that was moved out of HDFS still has its blocks, and the handles are as they were. */
    @Test
    void aHandleIsReadWhereverTheLogIsNow(@TempDir Path temp) {
        SparkConf conf = new SparkConf(false)
            .set("spark.streaming.receiver.writeAheadLog.class", ReceiverWriteAheadLog.class.getName())
            .set("spark.ferrowal.dir", temp.resolve("log").toUri().toString());
        WriteAheadLog log = WriteAheadLogUtils.createLogForReceiver(conf, "unused", new Configuration(false));
        try {
            FerrowalRecordHandle handle = (FerrowalRecordHandle) log.write(ByteBuffer.wrap(new byte[] {1, 2, 3}), 1);
            ByteBuffer read = log.read(new HdfsRecordHandle("hdfs://nn:8020/apps/log", handle.location()));
            assertEquals(ByteBuffer.wrap(new byte[] {1, 2, 3}), read);
        } finally {
            log.close();
        }
    }
}
