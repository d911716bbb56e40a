package org.ferrowal;

/** Another live process, or another class loader of this one, owns the log for writing. */
public class LogLockedException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public LogLockedException(String message) {
        super(message);
    }
}
