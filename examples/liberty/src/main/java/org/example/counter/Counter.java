package org.example.counter;

import com.ibm.research.kar.Kar.Actors;
import com.ibm.research.kar.actor.ActorSkeleton;
import com.ibm.research.kar.actor.annotations.Activate;
import com.ibm.research.kar.actor.annotations.Actor;
import com.ibm.research.kar.actor.annotations.Remote;
import javax.json.Json;
import javax.json.JsonNumber;
import javax.json.JsonString;
import javax.json.JsonValue;

/** A number that survives the process that holds it. */
@Actor
public class Counter extends ActorSkeleton {
  private long value;

  @Activate
  public void load() {
    JsonValue stored = Actors.State.get(this, "value");
    value = stored instanceof JsonNumber ? ((JsonNumber) stored).longValue() : 0;
  }

  /**
   * Adds to the counter and returns its new value. An attempt that is killed after its write is
   * made again; the bank example shows how to make a step safe against that.
   */
  @Remote
  public JsonValue add(JsonNumber amount) {
    value += amount.longValue();
    Actors.State.set(this, "value", Json.createValue(value));
    return Json.createValue(value);
  }

  @Remote
  public JsonValue get() {
    return Json.createValue(value);
  }

  /** Asks this same actor for its value in the flow of the call, so it does not wait for itself. */
  @Remote
  public JsonValue ask() throws Exception {
    return Actors.call(this, this, "get");
  }

  /** Hands the call on to another counter; the caller gets that counter's answer. */
  @Remote
  public Actors.TailCall forward(JsonString to, JsonNumber amount) {
    return new Actors.TailCall(Actors.ref("Counter", to.getString()), "add", amount);
  }

  @Remote
  public void fail(JsonString why) {
    throw new IllegalStateException(why.getString());
  }
}
