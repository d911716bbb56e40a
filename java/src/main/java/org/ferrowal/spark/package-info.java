/**
 * The classes that Spark Streaming loads by configuration.
 *
 * <pre>
 * spark.streaming.receiver.writeAheadLog.enable=true
 * spark.streaming.receiver.writeAheadLog.class=org.ferrowal.spark.ReceiverWriteAheadLog
 * spark.streaming.driver.writeAheadLog.class=org.ferrowal.spark.DriverWriteAheadLog
 * spark.ferrowal.dir=file:///var/lib/ferrowal/my-app
 * </pre>
 *
 * <p>The names of these classes and of the keys, and the meaning of their values, stay the same for ever: Spark freezes
 * its configuration in its checkpoint. The two log classes touch only SparkConf, SLF4J and Spark's two abstract classes,
 * so that one jar serves Spark 3 and 4, Scala 2.12 and 2.13.
 */
package org.ferrowal.spark;
