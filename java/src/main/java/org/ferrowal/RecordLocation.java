package org.ferrowal;

import java.io.Serializable;
import java.util.UUID;

/**
 * Where a record lies: what {@link Log#append} returns and {@link Log#read} takes. It holds uuids and numbers and never a
 * path, so it means the same in every process that can reach the log's directory, wherever that is mounted, and a hostile
 * one can point nowhere else.
 *
 * @param logHigh the log's uuid, most significant half
 * @param logLow the log's uuid, least significant half
 * @param writerHigh the writer's uuid, most significant half
 * @param writerLow the writer's uuid, least significant half
 * @param segment the segment's number, from 1 on
 * @param offset byte offset of the record's frame in the segment, a multiple of 8
 * @param length bytes of the record, 0 to 2^31-1
 * @param crc the frame's checksum
 * @param version format version of the segment: 1 where every record is kept as it is, 2 where some may be compressed or
 *     encrypted
 * @serial exclude
 */
public record RecordLocation(long logHigh, long logLow, long writerHigh, long writerLow, long segment, long offset,
                             int length, int crc, int version) implements Serializable {
    private static final long serialVersionUID = 1L;

    /** The newest format version that this release reads and writes; the oldest is 1. */
    private static final int NEWEST = 2;

    /**
     * Checks what can be checked without looking at the log; so does deserialization, which comes through here.
     *
     * @param logHigh see the record
     * @param logLow see the record
     * @param writerHigh see the record
     * @param writerLow see the record
     * @param segment see the record
     * @param offset see the record
     * @param length see the record
     * @param crc see the record
     * @param version see the record
     * @throws IllegalArgumentException when a component is outside of what any record can have
     */
    public RecordLocation {
        if (version < 1 || version > NEWEST) {
            throw new IllegalArgumentException("not a valid record handle: format version " + version
                + " is not known to this release");
        }
        if (length < 0) {
            throw new IllegalArgumentException("not a valid record handle: length " + length + " is negative");
        }
        if (segment <= 0) {
            throw new IllegalArgumentException("not a valid record handle: segment " + segment
                + " is not a segment number");
        }
        if (offset <= 0 || offset % 8 != 0) {
            throw new IllegalArgumentException("not a valid record handle: offset " + offset
                + " is not the place of a frame");
        }
    }

    /** From the longs that the native side writes. */
    static RecordLocation of(long[] longs) {
        return new RecordLocation(longs[0], longs[1], longs[2], longs[3], longs[4], longs[5],
            (int) (longs[6] >>> 32), (int) longs[6], (int) longs[7]);
    }

    /** To the longs that the native side reads. */
    void to(long[] longs) {
        longs[0] = logHigh;
        longs[1] = logLow;
        longs[2] = writerHigh;
        longs[3] = writerLow;
        longs[4] = segment;
        longs[5] = offset;
        longs[6] = (long) length << 32 | crc & 0xffff_ffffL;
        longs[7] = version;
    }

    /**
     * The log: one directory.
     *
     * @return its uuid
     */
    public UUID log() {
        return new UUID(logHigh, logLow);
    }

    /**
     * The writer within the log.
     *
     * @return its uuid
     */
    public UUID writer() {
        return new UUID(writerHigh, writerLow);
    }

    /** Short, since Spark logs it for every block: writer, segment, offset and length. */
    @Override
    public String toString() {
        return String.format("%08x/%d@%d+%d", writerHigh >>> 32, segment, offset, length);
    }
}
