package org.ferrowal;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** SLF4J's logger {@code org.ferrowal}. A class of its own, so that it is loaded only where SLF4J is. */
final class Slf4jSink implements NativeLog.Sink {
    private final Logger logger = LoggerFactory.getLogger("org.ferrowal");

    @Override
    public int level() {
        return logger.isTraceEnabled() ? 5
            : logger.isDebugEnabled() ? 4
            : logger.isInfoEnabled() ? 3
            : logger.isWarnEnabled() ? 2
            : logger.isErrorEnabled() ? 1 : 0;
    }

    @Override
    public void log(int level, String text) {
        switch (level) {
            case 1:
                logger.error(text);
                break;
            case 2:
                logger.warn(text);
                break;
            case 3:
                logger.info(text);
                break;
            case 4:
                logger.debug(text);
                break;
            default:
                logger.trace(text);
        }
    }
}
