package org.ferrowal;

/** Acknowledged bytes no longer check. They are never returned as data. */
public class CorruptRecordException extends LogException {
    private static final long serialVersionUID = 1L;

    /** The damaged segment. */
    private final long segment;
    /** Byte offset in the segment. */
    private final long offset;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     * @param segment the damaged segment
     * @param offset byte offset of the damage in the segment
     */
    public CorruptRecordException(String message, long segment, long offset) {
        super(message);
        this.segment = segment;
        this.offset = offset;
    }

    /**
     * The damaged segment.
     *
     * @return its number
     */
    public long segment() {
        return segment;
    }

    /**
     * Where in the segment the damage is.
     *
     * @return byte offset from the segment's first byte
     */
    public long offset() {
        return offset;
    }
}
