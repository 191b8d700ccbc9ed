// Package parts starts the real servers that the shared mesh runs on, for tests,
// benchmarks and `make mesh`: they listen on 127.0.0.1 only, keep their data in
// a folder of the caller and end with the process that started them.
//
// What has to be installed first (Java, Maven, Kafka's jars, Redis) is installed
// once and kept in the cache folder of the user, or in $KAR_TEST_CACHE.
package parts
