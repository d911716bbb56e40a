package org.ferrowal;

/**
 * The volume is full, and waiting for {@code clean} to free space did not help; or it is too full to open a log for writing, and
 * nothing was waited for. Nothing acknowledged is affected; writing works again when there is space.
 */
public class StorageFullException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public StorageFullException(String message) {
        super(message);
    }
}
