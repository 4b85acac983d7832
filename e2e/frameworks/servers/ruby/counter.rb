# Counts the writes of a server.
module Counter
  @value = 0
  @lock = Mutex.new

  # Returns the value as text.
  def self.value = @lock.synchronize { @value.to_s }
  def self.raise = @lock.synchronize { (@value += 1).to_s }
end
