package org.ferrowal.spark;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.ObjectInputFilter;
import java.io.ObjectInputStream;
import java.io.ObjectStreamClass;
import java.util.function.Function;
import scala.Option;
import scala.Product;
import scala.Tuple2;
import scala.collection.Iterable;
import scala.collection.Iterator;

/**
 * What the records of Spark's driver say, for people: blocks that were added, batches they were allocated to, batches that
 * were cleaned up. Spark writes them in Java's serialization, several in one record where it batches its writes.
 *
 * <p>Loaded by {@code dump --format spark} alone, where Spark's classes are. Only classes of the JDK, Scala, Spark and
 * ferrowal are read: a record of somebody else's making names no others.
 */
public final class DriverEvents implements Function<byte[], String> {
    private static final ObjectInputFilter KNOWN =
        ObjectInputFilter.Config.createFilter("java.lang.*;java.util.*;scala.**;org.apache.spark.**;org.ferrowal.**;!*");

    /** Called by {@code org.ferrowal.SparkEvents}. */
    public DriverEvents() {
    }

    /**
     * Lines for people.
     *
     * @param record a record of the driver's log
     * @return what it says, or that it is none of Spark's events
     */
    @Override
    public String apply(byte[] record) {
        StringBuilder text = new StringBuilder();
        say(record, text);
        return text.toString();
    }

    private void say(byte[] record, StringBuilder text) {
        Object event;
        try (ObjectInputStream in = new Reader(record)) {
            event = in.readObject();
        } catch (IOException | ClassNotFoundException | RuntimeException | LinkageError e) {
            none(record, e.toString(), text);
            return;
        }
        if (event instanceof byte[][]) {
            for (byte[] one : (byte[][]) event) {
                say(one, text);
            }
            return;
        }
        switch (event instanceof Product ? ((Product) event).productPrefix() : "") {
            case "BlockAdditionEvent":
                block("block added: ", part(event, 0), text);
                break;
            case "BatchAllocationEvent":
                text.append("batch allocated: ").append(part(event, 0)).append('\n');
                allocated(part(part(event, 1), 0), text);
                break;
            case "BatchCleanupEvent":
                text.append("batches cleaned up:");
                for (Iterator<?> times = elements(part(event, 0)); times.hasNext();) {
                    text.append(' ').append(times.next());
                }
                text.append('\n');
                break;
            default:
                // A block of a receiver's, perhaps, whose first object this is.
                none(record, event == null ? "null" : event.getClass().getTypeName(), text);
        }
    }

    private static void none(byte[] record, String why, StringBuilder text) {
        text.append("none of Spark's driver events: ").append(record.length).append(" bytes (").append(why).append(")\n");
    }

    /** A map from streams to their blocks. */
    private static void allocated(Object streams, StringBuilder text) {
        for (Iterator<?> each = elements(streams); each.hasNext();) {
            Tuple2<?, ?> stream = (Tuple2<?, ?>) each.next();
            Iterator<?> blocks = elements(stream._2());
            if (!blocks.hasNext()) {
                text.append("  stream ").append(stream._1()).append(": no blocks\n");
            }
            while (blocks.hasNext()) {
                block("  ", blocks.next(), text);
            }
        }
    }

    /** A ReceivedBlockInfo(stream, records, metadata, result), whose result is (block, records, and perhaps a handle). */
    private static void block(String what, Object info, StringBuilder text) {
        Object result = part(info, 3);
        text.append(what).append("stream ").append(part(info, 0)).append(", ").append(part(result, 0)).append(", ")
            .append(value(part(info, 1), "an unknown number of")).append(" records");
        if (((Product) result).productArity() > 2) {
            text.append(", at ").append(part(result, 2));
        } else {
            text.append(", not in a log");
        }
        String metadata = value(part(info, 2), "");
        text.append(metadata.isEmpty() ? "" : ", metadata " + metadata).append('\n');
    }

    private static Object part(Object of, int number) {
        return ((Product) of).productElement(number);
    }

    private static Iterator<?> elements(Object of) {
        return ((Iterable<?>) of).iterator();
    }

    private static String value(Object option, String otherwise) {
        return ((Option<?>) option).isEmpty() ? otherwise : String.valueOf(((Option<?>) option).get());
    }

    /** Finds classes where this one was found. */
    private static final class Reader extends ObjectInputStream {
        Reader(byte[] record) throws IOException {
            super(new ByteArrayInputStream(record));
            setObjectInputFilter(KNOWN);
        }

        @Override
        protected Class<?> resolveClass(ObjectStreamClass description) throws IOException, ClassNotFoundException {
            try {
                return Class.forName(description.getName(), false, DriverEvents.class.getClassLoader());
            } catch (ClassNotFoundException e) {
                return super.resolveClass(description);
            }
        }
    }
}
