package org.ferrowal;

/**
 * A record that no key of the log authenticates, where encryption is required: somebody else wrote it, or it is older than
 * the encryption. It is not read, and it is no damage, so no recovery policy passes over it.
 *
 * @see LogOptions#encryptionRequired
 */
public class UnauthenticatedRecordException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public UnauthenticatedRecordException(String message) {
        super(message);
    }
}
