package parts

import "testing"

// NeedRedis starts a server for a test and ends it with the test. Where none
// can be had the test is skipped, or fails when the environment says CI=true.
func NeedRedis(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), t.TempDir(), o)
	Need(t, "Redis", err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// NeedRedisSentinels is NeedRedis for a master, a replica and three sentinels.
func NeedRedisSentinels(t testing.TB, o RedisOptions) *RedisSentinels {
	t.Helper()
	s, err := StartRedisSentinels(t.Context(), t.TempDir(), o)
	Need(t, "Redis", err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// NeedRedisCluster is NeedRedis for three masters.
func NeedRedisCluster(t testing.TB, o RedisOptions) *RedisCluster {
	t.Helper()
	c, err := StartRedisCluster(t.Context(), t.TempDir(), o)
	Need(t, "Redis", err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}
