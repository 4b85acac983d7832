<?php
// A whole Laravel application (8), with the middleware of its kernel and routes as in
// routes/api.php. Its request is Symfony's: for POST it reads X-HTTP-Method-Override, and _method
// in the URL and in the body, which may be JSON.
error_reporting(0);
require 'Illuminate/autoload.php';
require dirname(__DIR__) . '/counter.php';

use Illuminate\Contracts\Console\Kernel as ConsoleKernel;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Http\Kernel as HttpKernel;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Exceptions\Handler;
use Illuminate\Foundation\Http\Kernel;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Route;

// What an installation has in bootstrap/cache and storage.
$storage = dirname(getenv('COUNTER'));
foreach (['SERVICES', 'PACKAGES', 'CONFIG', 'ROUTES', 'EVENTS'] as $cache) {
    $_SERVER["APP_{$cache}_CACHE"] = $_ENV["APP_{$cache}_CACHE"] = "$storage/" . strtolower($cache) . '.php';
}
$application = new Application(__DIR__);
$application->useStoragePath($storage);
$application->singleton(HttpKernel::class, Kernel::class);
$application->singleton(ExceptionHandler::class, Handler::class);

$application->booted(function () {
    $read = fn () => 'read';
    $write = fn () => counter(true);
    $writes = ['POST', 'PUT', 'PATCH', 'DELETE'];
    Route::get('/__counter', fn () => counter(false));
    Route::get('/orders/{id?}', $read);
    Route::match($writes, '/orders/{id?}', $write);
    Route::get('/logout', $write);
    foreach (['/search', '/login'] as $path) {
        Route::match(['GET', 'POST'], $path, $read);
        Route::match(array_slice($writes, 1), $path, $write);
    }
    Route::domain('orders.test')->match($writes, '/tenant', $write);
    Route::any('/tenant', $read);
    Route::any('/healthz', $read);
});

// As in applications behind a proxy (TrustProxies with '*').
Request::setTrustedProxies([$_SERVER['REMOTE_ADDR']], Request::HEADER_X_FORWARDED_FOR | Request::HEADER_X_FORWARDED_HOST
    | Request::HEADER_X_FORWARDED_PORT | Request::HEADER_X_FORWARDED_PROTO | Request::HEADER_X_FORWARDED_PREFIX);
$kernel = $application->make(HttpKernel::class);
$response = $kernel->handle($request = Request::capture())->send();
$kernel->terminate($request, $response);
