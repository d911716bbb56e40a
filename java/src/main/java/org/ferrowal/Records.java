package org.ferrowal;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * Records in write order, read from storage as they are asked for. What it holds open is let go of when the last record
 * was returned, at the first failure, at {@link #close}, or, at the latest, when it is collected. For one thread at a
 * time. Each buffer has position 0 and owns its memory.
 */
public final class Records implements Iterator<ByteBuffer>, AutoCloseable {
    private static final int UNKNOWN = -2;
    private static final int END = -1;
    private static final int CLOSED = -3;

    private final long id;
    private final Cleaner.Cleanable cleanable;
    /** Length of the next record, or {@link #UNKNOWN}, {@link #END} or {@link #CLOSED}. */
    private int next = UNKNOWN;

    Records(long id, Cleaner cleaner) {
        this.id = id;
        this.cleanable = cleaner.register(this, () -> Native.scanClose(id));
    }

    /**
     * Whether there is another record. Reads from storage; damage is met here. Behind the last record, and after a failure, it
     * stays false.
     *
     * @throws CorruptRecordException when bytes no longer check, but under {@link LogOptions.Recovery#SALVAGE}
     * @throws MissingKeyException when a record is encrypted with a key that was not given
     * @throws UnauthenticatedRecordException when encryption is required, and no key authenticates a record
     * @throws IllegalArgumentException when a newer release wrote a segment
     * @throws java.io.UncheckedIOException when the device refuses
     * @throws IllegalStateException when this was closed before its end was reached, so that nobody takes it for the end
     */
    @Override
    public boolean hasNext() {
        if (next == CLOSED) {
            throw new IllegalStateException("the records were closed before their end was reached: scan the log again");
        }
        if (next == UNKNOWN) {
            try {
                next = Native.scanNext(id);
            } catch (RuntimeException e) {
                end();
                throw e;
            } finally {
                Reference.reachabilityFence(this);
            }
            if (next == END) {
                end();
            }
        }
        return next != END;
    }

    /**
     * The next record. Throws what {@link #hasNext} throws, unless that was called for it before.
     *
     * @throws NoSuchElementException when there are no more
     * @throws IllegalStateException when this was closed before its end was reached
     */
    @Override
    public ByteBuffer next() {
        if (!hasNext()) {
            throw new NoSuchElementException("there are no more records");
        }
        try {
            ByteBuffer buffer = Buffers.allocate(next);
            if (buffer.isDirect()) {
                Native.scanTakeDirect(id, buffer);
            } else {
                Native.scanTake(id, buffer.array());
            }
            next = UNKNOWN;
            return buffer;
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** Lets go of everything; the records that were returned stay as they are. Again is no error. */
    @Override
    public void close() {
        int was = next;
        end();
        next = was == END ? END : CLOSED;
    }

    private void end() {
        next = END;
        cleanable.clean();
        NativeLog.drain();
    }
}
