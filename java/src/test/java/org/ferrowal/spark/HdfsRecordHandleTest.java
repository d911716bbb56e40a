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
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.ferrowal.RecordLocation;
import org.junit.jupiter.api.Test;

class HdfsRecordHandleTest {
    /** Never to be changed, and the same under every Scala: handles of every release lie in drivers' logs. */
    private static final String GOLDEN = "@GOLDEN@";

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
}
