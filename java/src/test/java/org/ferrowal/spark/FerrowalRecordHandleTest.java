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
import java.util.HexFormat;
import org.ferrowal.RecordLocation;
import org.junit.jupiter.api.Test;

class FerrowalRecordHandleTest {
    /** Never to be changed: handles of every release lie in drivers' logs. */
    private static final String GOLDEN = "aced0005737200276f72672e666572726f77616c2e737061726b2e466572726f77616c5265636f726448616e646c65000000"
        + "00000000010200014c00086c6f636174696f6e74001d4c6f72672f666572726f77616c2f5265636f72644c6f636174696f6e"
        + "3b787200396f72672e6170616368652e737061726b2e73747265616d696e672e7574696c2e577269746541686561644c6f67"
        + "5265636f726448616e646c651147c565657fdcd802000078707372001b6f72672e666572726f77616c2e5265636f72644c6f"
        + "636174696f6e00000000000000010200094900036372634900066c656e6774684a00076c6f67486967684a00066c6f674c6f"
        + "774a00066f66667365744a00077365676d656e7449000776657273696f6e4a000a777269746572486967684a000977726974"
        + "65724c6f777870cafebabe0000004d0123456789abcdef000000000000000200000000000010000000000000000005000000"
        + "01fedcba98765432100000000000000004";

    private static final RecordLocation LOCATION = new RecordLocation(0x0123456789abcdefL, 2, 0xfedcba9876543210L, 4, 5,
        4096, 77, 0xcafebabe, 1);

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
        FerrowalRecordHandle handle = new FerrowalRecordHandle(LOCATION);
        assertEquals(GOLDEN, HexFormat.of().formatHex(serialize(handle)));
        assertEquals(handle, deserialize(HexFormat.of().parseHex(GOLDEN)));
    }

    @Test
    void equalLocationsMakeEqualHandles() throws Exception {
        FerrowalRecordHandle handle = new FerrowalRecordHandle(LOCATION);
        Object same = deserialize(serialize(handle));
        assertEquals(handle, same);
        assertEquals(handle.hashCode(), same.hashCode());
        assertNotEquals(handle, new FerrowalRecordHandle(new RecordLocation(0x0123456789abcdefL, 2, 0xfedcba9876543210L,
            4, 5, 4104, 77, 0xcafebabe, 1)));
        assertNotEquals(handle, LOCATION);
    }

    @Test
    void textIsShort() {
        assertEquals("ferrowal:fedcba98/5@4096+77", new FerrowalRecordHandle(LOCATION).toString());
    }

    @Test
    void anImpossibleHandleIsRefusedAsItIsRead() throws Exception {
        byte[] bytes = serialize(new FerrowalRecordHandle(LOCATION));
        // The offset, 4096, becomes 4097.
        byte[] offset = {0, 0, 0, 0, 0, 0, 0x10, 0};
        for (int i = 0; i + 8 <= bytes.length; i++) {
            if (java.util.Arrays.equals(bytes, i, i + 8, offset, 0, 8)) {
                bytes[i + 7] = 1;
            }
        }
        assertEquals("not a valid record handle: offset 4097 is not the place of a frame",
            assertThrows(InvalidObjectException.class, () -> deserialize(bytes)).getMessage());
    }
}
