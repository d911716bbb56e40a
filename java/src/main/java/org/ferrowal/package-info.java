/**
 * ferrowal's log for any JVM program.
 *
 * <p>{@link org.ferrowal.Log} appends records that are durable when {@code append} returns, reads them by
 * {@link org.ferrowal.RecordLocation}, gives them all back in write order, and drops them by time. The work is done by a
 * native library that the jar carries. All failures are {@link java.lang.RuntimeException}s: bad arguments are
 * {@link java.lang.IllegalArgumentException}, a closed log is {@link java.lang.IllegalStateException}, refusals of the
 * file system are {@link java.io.UncheckedIOException}, and the rest are {@link org.ferrowal.LogException}s.
 *
 * <p>{@code org.ferrowal.spark} has the classes that Spark loads.
 */
package org.ferrowal;
