package org.ferrowal.spark;

import java.io.InvalidObjectException;
import java.io.ObjectInputStream;
import java.io.Serializable;
import java.util.Objects;
import org.apache.spark.streaming.util.FileBasedWriteAheadLogSegment;
import org.ferrowal.RecordLocation;

/**
 * The handle of a block in HDFS: as a {@link FerrowalRecordHandle}, and one by which Spark knows where the block's bytes
 * are. It asks the name node for the machines of a {@code FileBasedWriteAheadLogSegment}, and of no other handle, and runs
 * the task that reads it there.
 *
 * <p>What is read is the location, in the directory that the log has now; the path is for Spark's scheduler alone. It is
 * made of the directory as it was when the record was written and the location's numbers, so it always lies inside that
 * directory. After the log was moved it names nothing, and Spark runs the task anywhere. The serialized form is our own and never changes: that of Spark's class
 * is another one for each Scala.
 */
public final class HdfsRecordHandle extends FileBasedWriteAheadLogSegment {
    private static final long serialVersionUID = 1L;

    private final transient String directory;
    private final transient RecordLocation location;

    /**
     * Makes a handle.
     *
     * @param directory the log's directory, an {@code hdfs:} URI
     * @param location the record's place in a receivers' log
     * @throws IllegalArgumentException when the directory is null, not in HDFS, or has a part that leads elsewhere
     * @throws NullPointerException when the location is null
     */
    public HdfsRecordHandle(String directory, RecordLocation location) {
        super(path(directory, location), location.offset(), location.length());
        this.directory = directory;
        this.location = location;
    }

    private static String path(String directory, RecordLocation location) {
        Objects.requireNonNull(location, "location");
        if (directory == null || !isHdfs(directory)) {
            throw new IllegalArgumentException("not a valid record handle: " + directory + " is not a directory in HDFS");
        }
        for (String part : directory.split("/")) {
            if (part.equals("..") || part.equals(".")) {
                throw new IllegalArgumentException("not a valid record handle: " + directory + " leads elsewhere");
            }
        }
        String base = directory.endsWith("/") ? directory : directory + "/";
        return String.format("%sreceivers/%s/%016d.seg", base, location.writer(), location.segment());
    }

    /** Whether a directory is one whose blocks have such handles. */
    static boolean isHdfs(String directory) {
        return directory.regionMatches(true, 0, "hdfs://", 0, 7);
    }

    /**
     * The record's place.
     *
     * @return where the record lies
     */
    public RecordLocation location() {
        return location;
    }

    /** What is serialized in place of a handle. Its bytes lie in drivers' logs. */
    private record Form(String directory, RecordLocation location) implements Serializable {
        private static final long serialVersionUID = 1L;

        private Object readResolve() throws InvalidObjectException {
            try {
                return new HdfsRecordHandle(directory, location);
            } catch (IllegalArgumentException | NullPointerException e) {
                InvalidObjectException invalid = new InvalidObjectException(e.getMessage());
                invalid.initCause(e);
                throw invalid;
            }
        }
    }

    /**
     * What is serialized in place of this.
     *
     * @return the form
     */
    private Object writeReplace() {
        return new Form(directory, location);
    }

    /**
     * A stream that holds a handle itself, and not its form, is not ours.
     *
     * @param in the stream
     * @throws InvalidObjectException always
     */
    private void readObject(ObjectInputStream in) throws InvalidObjectException {
        throw new InvalidObjectException("not a valid record handle: it is not in the form that ferrowal writes");
    }

    /** Whether the other one names the same record. */
    @Override
    public boolean equals(Object other) {
        return other instanceof HdfsRecordHandle handle && location.equals(handle.location);
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
