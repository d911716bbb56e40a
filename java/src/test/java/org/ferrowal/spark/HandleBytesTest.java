package org.ferrowal.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InvalidObjectException;
import java.io.ObjectInputFilter;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.EdgeCasesMode;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import net.jqwik.api.statistics.Statistics;
import org.apache.spark.streaming.util.WriteAheadLogRecordHandle;
import org.ferrowal.RecordLocation;

/**
 * Properties of the serialized form of both handles, tried by jqwik: it prints the seed of every run, and of a failure the
 * smallest input that it finds, which the next run begins with. {@code @Property(seed = "…")} runs one again.
 * {@link HostileHandleTest} reads with such handles.
 */
class HandleBytesTest {
    /** At the end of the stream of either: crc, length, log, offset, segment, version and writer, by their names. */
    private static final int FIELDS = 3 * Integer.BYTES + 6 * Long.BYTES;

    /** What a location's components are, allowed or not. */
    record Fields(int crc, int length, long logHigh, long logLow, long offset, long segment, int version,
                  long writerHigh, long writerLow) {
        byte[] bytes() {
            return ByteBuffer.allocate(FIELDS).putInt(crc).putInt(length).putLong(logHigh).putLong(logLow)
                .putLong(offset).putLong(segment).putInt(version).putLong(writerHigh).putLong(writerLow).array();
        }

        /** What the documentation of {@link RecordLocation} says, once more. */
        boolean areAllowed() {
            return length >= 0 && offset > 0 && offset % 8 == 0 && segment > 0 && (version == 1 || version == 2);
        }

        RecordLocation location() {
            return new RecordLocation(logHigh, logLow, writerHigh, writerLow, segment, offset, length, crc, version);
        }
    }

    /** One change to a stream. */
    record Edit(int at, int cut, byte[] put) {
        byte[] to(byte[] bytes) {
            // From the end, where the fields are.
            int from = bytes.length - at % (bytes.length + 1);
            int until = Math.min(bytes.length, from + cut);
            ByteArrayOutputStream edited = new ByteArrayOutputStream();
            edited.write(bytes, 0, from);
            edited.writeBytes(put);
            edited.write(bytes, until, bytes.length - until);
            return edited.toByteArray();
        }

        @Override
        public String toString() {
            return at + " from the end, cut " + cut + ", put " + HexFormat.of().formatHex(put);
        }
    }

    private static byte[] serialize(Object object) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
            out.writeObject(object);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }

    private static Object deserialize(byte[] bytes) throws IOException, ClassNotFoundException {
        try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes))) {
            in.setObjectInputFilter(info -> info.arrayLength() > 1000
                ? ObjectInputFilter.Status.REJECTED : ObjectInputFilter.Status.UNDECIDED);
            return in.readObject();
        }
    }

    private static WriteAheadLogRecordHandle handle(boolean hdfs, RecordLocation location) {
        return hdfs ? new HdfsRecordHandle("hdfs://nn:8020/apps/log", location) : new FerrowalRecordHandle(location);
    }

    private static RecordLocation location(Object handle) {
        return handle instanceof HdfsRecordHandle hdfs ? hdfs.location()
            : assertInstanceOf(FerrowalRecordHandle.class, handle).location();
    }

    /** Extremes half of the time; so jqwik need not mix in its own, of which so many fields have more than there are tries. */
    private static Arbitrary<Long> anyLong() {
        return Arbitraries.oneOf(Arbitraries.longs(), Arbitraries.of(Long.MIN_VALUE, Long.MIN_VALUE + 8, -8L, -1L, 0L, 1L,
            7L, 8L, 4096L, 1L << 31, 1L << 32, 1L << 62, Long.MAX_VALUE - 7, Long.MAX_VALUE));
    }

    private static Arbitrary<Integer> anyInt() {
        return Arbitraries.oneOf(Arbitraries.integers(), Arbitraries.of(Integer.MIN_VALUE, -1, 0, 1, Integer.MAX_VALUE));
    }

    private static Arbitrary<Fields> fields(Arbitrary<Integer> length, Arbitrary<Long> offset, Arbitrary<Long> segment,
                                            Arbitrary<Integer> version) {
        Arbitrary<List<Long>> uuids = anyLong().list().ofSize(4);
        return Combinators.combine(anyInt(), length, uuids, offset, segment, version)
            .as((crc, l, u, o, s, v) -> new Fields(crc, l, u.get(0), u.get(1), o, s, v, u.get(2), u.get(3)));
    }

    @Provide
    Arbitrary<Fields> allowed() {
        return fields(anyInt().filter(n -> n >= 0), anyLong().map(n -> n & ~7L).filter(n -> n > 0),
            anyLong().filter(n -> n > 0), Arbitraries.of(1, 2));
    }

    @Provide
    Arbitrary<Fields> any() {
        Arbitrary<Integer> version = Arbitraries.oneOf(Arbitraries.of(1, 2), Arbitraries.of(0, 3), anyInt());
        return Arbitraries.oneOf(allowed(), fields(anyInt(), anyLong(), anyLong(), version));
    }

    @Provide
    Arbitrary<List<Edit>> edits() {
        Arbitrary<byte[]> put = Arbitraries.bytes().array(byte[].class).ofMinSize(0).ofMaxSize(9);
        Arbitrary<Integer> at = Arbitraries.oneOf(Arbitraries.integers().between(0, FIELDS),
            Arbitraries.integers().between(0, 2000));
        Arbitrary<Edit> free = Combinators.combine(at, Arbitraries.integers().between(0, 9), put).as(Edit::new);
        // Those of the same length leave what follows where it is.
        Arbitrary<Edit> same = Combinators.combine(at, put).as((from, bytes) -> new Edit(from, bytes.length, bytes));
        return Arbitraries.oneOf(free, same).list().ofMinSize(1).ofMaxSize(4);
    }

    @Property(tries = 2_000, edgeCases = EdgeCasesMode.NONE)
    void whatIsWrittenIsRead(@ForAll boolean hdfs, @ForAll("allowed") Fields fields) throws Exception {
        WriteAheadLogRecordHandle handle = handle(hdfs, fields.location());
        Object read = deserialize(serialize(handle));
        assertEquals(handle, read);
        assertEquals(handle.hashCode(), read.hashCode());
        assertEquals(handle.toString(), read.toString());
        assertEquals(fields.location(), location(read));
    }

    /** Fields of any value: exactly those that are allowed come through, unaltered. */
    @Property(tries = 10_000, edgeCases = EdgeCasesMode.NONE)
    void everyFieldIsChecked(@ForAll boolean hdfs, @ForAll("any") Fields fields) throws Exception {
        byte[] bytes = serialize(handle(hdfs, new RecordLocation(1, 2, 3, 4, 5, 4096, 77, 6, 1)));
        System.arraycopy(fields.bytes(), 0, bytes, bytes.length - FIELDS, FIELDS);
        Statistics.label("fields").collect(fields.areAllowed() ? "allowed" : "refused")
            .coverage(all -> List.of("allowed", "refused").forEach(which -> all.check(which).percentage(p -> p > 10)));
        if (fields.areAllowed()) {
            assertEquals(fields.location(), location(deserialize(bytes)));
        } else {
            String why = assertThrows(InvalidObjectException.class, () -> deserialize(bytes)).getMessage();
            assertTrue(why.startsWith("not a valid record handle: "), why);
        }
    }

    /** Whatever is changed: an exception, or a handle that keeps every rule and is written and read again. */
    @Property(tries = 20_000, edgeCases = EdgeCasesMode.NONE)
    void anyBytesGiveAValidHandleOrAnException(@ForAll boolean hdfs, @ForAll("allowed") Fields fields,
                                               @ForAll("edits") List<Edit> edits) throws Exception {
        byte[] bytes = serialize(handle(hdfs, fields.location()));
        for (Edit edit : edits) {
            bytes = edit.to(bytes);
        }
        Object object = null;
        try {
            object = deserialize(bytes);
        } catch (IOException | ClassNotFoundException | RuntimeException | LinkageError refused) {
            // Whatever Java's own stream finds wrong with the bytes; nothing was made of them.
        }
        boolean taken = object instanceof WriteAheadLogRecordHandle;
        Statistics.label("bytes").collect(taken ? "taken" : "refused")
            .coverage(all -> List.of("taken", "refused").forEach(which -> all.check(which).percentage(p -> p > 5)));
        if (taken) {
            RecordLocation read = location(object);
            assertTrue(read.length() >= 0 && read.segment() > 0 && read.offset() > 0 && read.offset() % 8 == 0
                && (read.version() == 1 || read.version() == 2), () -> "against the rules: " + read);
            if (object instanceof HdfsRecordHandle named) {
                assertTrue(named.path().regionMatches(true, 0, "hdfs://", 0, 7)
                    && !Arrays.asList(named.path().split("/")).contains(".."), named::path);
            }
            assertEquals(object, deserialize(serialize(object)));
        }
    }
}
