package org.ferrowal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.UUID;
import org.junit.jupiter.api.Test;

class RecordLocationTest {
    private static RecordLocation location(long segment, long offset, int length, int version) {
        return new RecordLocation(1, 2, 0xdeadbeef_00000000L, 4, segment, offset, length, -5, version);
    }

    private static String refused(long segment, long offset, int length, int version) {
        return assertThrows(IllegalArgumentException.class, () -> location(segment, offset, length, version))
            .getMessage();
    }

    @Test
    void impossibleComponentsAreRefused() {
        assertEquals("not a valid record handle: format version 3 is not known to this release", refused(1, 8, 1, 3));
        assertEquals("not a valid record handle: format version 0 is not known to this release", refused(1, 8, 1, 0));
        assertEquals("not a valid record handle: length -1 is negative", refused(1, 8, -1, 1));
        assertEquals("not a valid record handle: segment 0 is not a segment number", refused(0, 8, 1, 1));
        assertEquals("not a valid record handle: segment -3 is not a segment number", refused(-3, 8, 1, 1));
        assertEquals("not a valid record handle: offset 0 is not the place of a frame", refused(1, 0, 1, 1));
        assertEquals("not a valid record handle: offset 12 is not the place of a frame", refused(1, 12, 1, 1));
        assertEquals("not a valid record handle: offset -8 is not the place of a frame", refused(1, -8, 1, 1));
    }

    @Test
    void longsCarryEveryComponent() {
        RecordLocation location = new RecordLocation(Long.MIN_VALUE, -1, 3, Long.MAX_VALUE, Long.MAX_VALUE,
            Long.MAX_VALUE - 7, Integer.MAX_VALUE, Integer.MIN_VALUE, 1);
        long[] longs = new long[Native.HANDLE_LONGS];
        location.to(longs);
        assertEquals(location, RecordLocation.of(longs));
    }

    @Test
    void textIsShort() {
        assertEquals("deadbeef/12@4096+77", location(12, 4096, 77, 1).toString());
    }

    @Test
    void uuidsAreThoseOfTheHalves() {
        assertEquals(new UUID(1, 2), location(1, 8, 0, 1).log());
        assertEquals(new UUID(0xdeadbeef_00000000L, 4), location(1, 8, 0, 1).writer());
    }
}
