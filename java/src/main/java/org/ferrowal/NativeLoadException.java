package org.ferrowal;

/**
 * The native library could not be loaded. The message lists what was tried and what may help; the failures of the single
 * attempts are its suppressed exceptions.
 */
public class NativeLoadException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what was tried, and what may help
     * @param cause the failure of the attempt that should have worked; may be null
     */
    public NativeLoadException(String message, Throwable cause) {
        super(message, cause);
    }
}
