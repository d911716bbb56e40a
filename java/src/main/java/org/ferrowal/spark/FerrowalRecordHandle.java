package org.ferrowal.spark;

import java.io.IOException;
import java.io.InvalidObjectException;
import java.io.ObjectInputStream;
import java.util.Objects;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.RecordLocation;

/**
 * What Spark keeps of a block: the location of its record. It travels between driver and executors and lies in the
 * driver's log, so its serialized form never changes.
 *
 * <p>It must have equals and hashCode: after a crash Spark finds the blocks that were already given to a batch by
 * comparing handles, and processes again what it does not find.
 */
public final class FerrowalRecordHandle extends WriteAheadLogRecordHandle {
    private static final long serialVersionUID = 1L;

    /** The record's place. */
    private final RecordLocation location;

    /**
     * Makes a handle.
     *
     * @param location the record's place
     * @throws NullPointerException when it is null
     */
    public FerrowalRecordHandle(RecordLocation location) {
        this.location = Objects.requireNonNull(location, "location");
    }

    /**
     * The record's place.
     *
     * @return where the record lies
     */
    public RecordLocation location() {
        return location;
    }

    /**
     * A stream may leave the location out, and then the constructor's check is passed by.
     *
     * @param in the stream
     * @throws IOException if it has no location, or cannot be read
     * @throws ClassNotFoundException if a class that it names is not there
     */
    private void readObject(ObjectInputStream in) throws IOException, ClassNotFoundException {
        in.defaultReadObject();
        if (location == null) {
            throw new InvalidObjectException("not a valid record handle: it has no location");
        }
    }

    /** Whether the other one names the same record. */
    @Override
    public boolean equals(Object other) {
        return other instanceof FerrowalRecordHandle && location.equals(((FerrowalRecordHandle) other).location);
    }

    /** Follows from the location. */
    @Override
    public int hashCode() {
        return location.hashCode();
    }

    /** Short, since Spark logs it for every block. */
    @Override
    public String toString() {
        return "ferrowal:" + location;
    }
}
